import { describe, expect, it } from 'vitest'
import { admit, type AdmissionInput } from '#flyweight/serving/admission.js'
import type { Candidate } from '#flyweight/serving/router.js'

function variant(name: string, fidelity: number, p99Ms: number | undefined, loadMs = 0): Candidate {
  return {
    id: name,
    name,
    fidelity,
    state: 'ready',
    sizeOnly: false,
    loadMs,
    predict: () => (p99Ms === undefined ? undefined : { p50Ms: p99Ms, p99Ms }),
  }
}

function judge(overrides: Partial<AdmissionInput>) {
  return admit({
    now: 1000,
    demand: { minFidelity: 0, pinned: undefined },
    deadline: Infinity,
    rows: 1,
    candidates: [variant('fp32', 1, 20), variant('int8', 0.95, 10)],
    laneFreeMs: 0,
    backlogMs: 0,
    epsilonMs: 1,
    ...overrides,
  })
}

describe('admit', () => {
  it('finds the most faithful variant that finishes in time', () => {
    expect(judge({ deadline: 1021 })).toMatchObject({ kind: 'feasible', candidate: { name: 'fp32' }, predictedMs: 21 })
    expect(judge({ deadline: 1020.9 })).toMatchObject({ kind: 'feasible', candidate: { name: 'int8' }, predictedMs: 11 })
  })

  it('tells a deadline that no variant can meet from one that only the queue prevents', () => {
    expect(judge({ deadline: 1010 })).toMatchObject({ kind: 'unmet', cause: 'speed', fastest: { name: 'int8' } })
    expect(judge({ deadline: 1015, backlogMs: 30 })).toMatchObject({ kind: 'unmet', cause: 'backlog', retryAfterMs: 26 })
    expect(judge({ deadline: 1015, laneFreeMs: 30 })).toMatchObject({ kind: 'unmet', cause: 'backlog' })
  })

  it('names a variant that would do if it were in memory', () => {
    const candidates = [variant('fp32', 1, 20), variant('int8', 0.95, 10, 300)]
    expect(judge({ deadline: 1015, candidates })).toMatchObject({ kind: 'unmet', cause: 'cold', fastest: { name: 'int8' } })
  })

  it('lets nothing below the minimum fidelity in', () => {
    expect(judge({ demand: { minFidelity: 0.96, pinned: undefined }, deadline: 1015 })).toMatchObject({ cause: 'speed', fastest: { name: 'fp32' } })
    expect(judge({ demand: { minFidelity: 0, pinned: 'fp64' } })).toMatchObject({ kind: 'unmet', cause: 'none' })
  })

  it('gives a variant that was never measured the benefit of the doubt', () => {
    expect(judge({ deadline: 1001, candidates: [variant('fp32', 1, undefined)] })).toMatchObject({ kind: 'feasible', predictedMs: undefined })
  })
})
