import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { dispatch, refusal, type Candidate, type DispatchInput, type Waiting } from '#flyweight/serving/router.js'

/** A variant whose run takes `fixedMs` plus `perRowMs` a row; p99 is 20 % above p50. */
function variant(name: string, fidelity: number, cost: { fixedMs: number; perRowMs: number; loadMs?: number }): Candidate {
  return {
    id: `m:1:${name}`,
    name,
    fidelity,
    state: 'ready',
    sizeOnly: false,
    loadMs: cost.loadMs ?? 0,
    predict: (batch) => {
      const p50Ms = cost.fixedMs + cost.perRowMs * batch
      return { p50Ms, p99Ms: p50Ms * 1.2 }
    },
  }
}

const fp32 = variant('fp32', 1, { fixedMs: 1, perRowMs: 10 })
const int8 = variant('int8', 0.97, { fixedMs: 1, perRowMs: 5 })

function waiting(overrides: Partial<Waiting> = {}): Waiting {
  return { rows: 1, deadline: Infinity, minFidelity: 0, pinned: undefined, bestEffort: false, ...overrides }
}

function input(overrides: Partial<DispatchInput>): DispatchInput {
  return {
    now: 0,
    queue: [waiting()],
    candidates: [fp32, int8],
    arrivalRate: 0,
    lanes: 1,
    epsilonMs: 0,
    maxBatch: 32,
    maxDelayMs: 5,
    headWaitedMs: 0,
    displacedRows: 0,
    expectedRequests: 0,
    ...overrides,
  }
}

function chosen(overrides: Partial<DispatchInput>): string {
  const decision = dispatch(input(overrides))
  return decision.kind === 'run' ? `${decision.candidate.name} x${decision.rows}` : decision.kind
}

describe('dispatch', () => {
  it('answers with the most faithful variant when there is no deadline', () => {
    expect(chosen({})).toBe('fp32 x1')
  })

  it('answers with the faster variant when only it meets the deadline', () => {
    expect(chosen({ queue: [waiting({ deadline: 10 })] })).toBe('int8 x1')
  })

  it('never goes below the minimum fidelity, even if that means being late', () => {
    expect(chosen({ queue: [waiting({ deadline: 10, minFidelity: 0.99 })] })).toBe('late')
    expect(chosen({ queue: [waiting({ bestEffort: true, minFidelity: 0.99 })] })).toBe('fp32 x1')
  })

  it('gives best-effort requests the fastest permitted variant', () => {
    expect(chosen({ queue: [waiting({ bestEffort: true })] })).toBe('int8 x1')
  })

  it('shrinks the batch to what the head can afford', () => {
    const queue = [waiting({ deadline: 40 }), ...Array.from({ length: 20 }, () => waiting({ deadline: 4000 }))]
    expect(chosen({ queue, candidates: [fp32] })).toBe('fp32 x3')
  })

  it('drops to the faster variant when the queued deadlines cannot be kept otherwise', () => {
    const queue = Array.from({ length: 16 }, () => waiting({ deadline: 150 }))
    expect(chosen({ queue })).toMatch(/^int8 x/)
  })

  it('drops to the faster variant when arrivals outrun the faithful one', () => {
    const queue = [waiting(), waiting()]
    expect(chosen({ queue, arrivalRate: 0.09 })).toBe('fp32 x2')
    expect(chosen({ queue, arrivalRate: 0.15 })).toBe('int8 x2')
  })

  it('drops to the faster variant when others lost their deadlines to the faithful one', () => {
    expect(chosen({ queue: [waiting(), waiting()], displacedRows: 0 })).toBe('fp32 x2')
    expect(chosen({ queue: [waiting(), waiting()], displacedRows: 1 })).toBe('int8 x2')
  })

  it('counts the load of a cold variant against the deadline', () => {
    const cold = variant('int8', 0.97, { fixedMs: 1, perRowMs: 5, loadMs: 300 })
    expect(chosen({ candidates: [fp32, cold], queue: [waiting({ deadline: 10 })] })).toBe('late')
    expect(chosen({ candidates: [fp32, cold], queue: [waiting({ deadline: 1000, pinned: 'int8' })] })).toBe('int8 x1')
  })

  it('leaves requests that pin another variant for another batch', () => {
    const decision = dispatch(input({ queue: [waiting({ pinned: 'int8' }), waiting({ pinned: 'fp32' }), waiting()] }))
    expect(decision).toMatchObject({ kind: 'run', members: [0, 2], candidate: { name: 'int8' } })
  })

  it('makes a lone client never wait, and waits for company only while more are due', () => {
    const busy = { arrivalRate: 1, queue: [waiting({ deadline: 1000 })] }
    expect(chosen({ ...busy, lanes: 16, expectedRequests: 0 })).toBe('fp32 x1')
    expect(chosen({ ...busy, lanes: 16, expectedRequests: 8 })).toBe('wait')
    expect(chosen({ ...busy, lanes: 16, expectedRequests: 8, headWaitedMs: 5 })).toBe('fp32 x1')
  })

  it('keeps its promises for any queue', () => {
    const someWaiting = fc.record({
      rows: fc.integer({ min: 1, max: 8 }),
      deadline: fc.oneof(fc.constant(Infinity), fc.double({ min: 1, max: 500, noNaN: true })),
      minFidelity: fc.constantFrom(0, 0.9, 0.98, 1),
      pinned: fc.constantFrom(undefined, undefined, 'fp32', 'int8', 'fp16'),
      bestEffort: fc.constant(false),
    })
    const fp16 = { ...variant('fp16', 0.999, { fixedMs: 1, perRowMs: 10 }), sizeOnly: true }
    fc.assert(
      fc.property(fc.array(someWaiting, { minLength: 1, maxLength: 20 }), fc.double({ min: 0, max: 1, noNaN: true }), (queue, arrivalRate) => {
        const decision = dispatch(input({ queue, arrivalRate, candidates: [fp32, int8, fp16] }))
        if (decision.kind !== 'run') return
        const members = decision.members.map((index) => queue[index] as Waiting)
        expect(decision.members[0]).toBe(0)
        expect(decision.rows).toBe(members.reduce((sum, { rows }) => sum + rows, 0))
        expect(decision.rows <= 32 || members.length === 1).toBe(true)
        for (const member of members) {
          expect(refusal(decision.candidate, member)).toBeUndefined()
          expect(decision.candidate.predict(decision.rows)!.p99Ms).toBeLessThanOrEqual(member.deadline)
        }
      }),
      { seed: 1, numRuns: 500 },
    )
  })
})

describe('refusal', () => {
  it('says why a variant may not answer', () => {
    const demand = { minFidelity: 0.98, pinned: undefined }
    expect(refusal(int8, demand)).toBe('its fidelity 0.9700 is below the minimum 0.9800')
    expect(refusal({ ...fp32, state: 'quarantined' }, demand)).toBe('it is quarantined')
    expect(refusal({ ...fp32, sizeOnly: true }, demand)).toMatch('pin')
    expect(refusal({ ...fp32, sizeOnly: true }, { minFidelity: 0, pinned: 'fp32' })).toBeUndefined()
  })
})
