// The request path through a whole gateway: right numbers, and the SLA kept or its miss said.
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openSession } from '#flyweight/runtime/session.js'
import { syntheticFeeds } from '#flyweight/runtime/sample-inputs.js'
import type { Tensor } from '#flyweight/tensor/tensor.js'
import { countingModel, filled, startApp, times, valuesOf, type TestApp } from './app.js'
import { scaleModel } from '../scale-model.js'

let app: TestApp
beforeAll(async () => {
  app = await startApp(
    {
      'scale/1/model.onnx': scaleModel(2),
      'scale/model.yaml': 'policy: { onDemand: [] }\n',
      'changing/1/model.onnx': scaleModel(5),
      'count/1/model.onnx': countingModel(),
    },
    { serving: { lanes: 1, maxQueuedRows: 40 } },
  )
  // What the policy believes of the variants of `scale`: the better, the slower.
  app.believe('scale:1:fp32', 1000)
  await app.addVariant('half', { factor: 2.25, fidelity: 0.9, ms: 100 })
  await app.addVariant('rough', { factor: 2.5, fidelity: 0.6, ms: 1 })
  await app.addVariant('small', { factor: 3, fidelity: 0.99, ms: 1, sizeOnly: true })
})
afterAll(() => app.stop())

const factors: Record<string, number> = { fp32: 2, half: 2.25, rough: 2.5, small: 3 }
const fidelities: Record<string, number> = { fp32: 1, half: 0.9, rough: 0.6, small: 0.99 }

/** Keeps the only lane busy until the returned promise settles; what is asked in this turn of the event loop waits. */
const occupy = () => app.infer('count', { inputs: times(200_000) })

describe('numbers', () => {
  let rows: Record<string, Tensor>[]
  let expected: number[][]

  beforeAll(async () => {
    const session = await openSession('models/digits/1/model.onnx')
    rows = Array.from({ length: 24 }, (_, seed) => syntheticFeeds(session.inputs, { batch: 1, seed }))
    expected = []
    for (const row of rows)
      expected.push([...(Object.values(await session.run({ x: { ...row['x']!, data: row['x']!.data.slice() } }))[0]!.data as Float32Array)])
    await session.release()
  })

  const same = (got: readonly number[], wanted: readonly number[]) => {
    expect(got).toHaveLength(wanted.length)
    for (const [index, value] of wanted.entries()) expect(Math.abs(got[index]! - value)).toBeLessThan(1e-4 * Math.max(1, Math.abs(value)))
  }

  it('of single rows are those of a session of one’s own', async () => {
    for (const [index, inputs] of rows.slice(0, 4).entries()) {
      const result = await app.infer('digits', { inputs })
      expect(result).toMatchObject({ model: 'digits', version: '1', variant: 'fp32', fidelity: 1, route: { deadlineMet: true }, timing: { batchSize: 1 } })
      same(valuesOf(result), expected[index]!)
    }
    expect(rows[0]!['x']!.data).toHaveLength(784)
  })

  it('of requests that come together are each one’s own, though they ran as one batch', async () => {
    const before = app.gateway.stats('digits')[0]!
    const results = await Promise.all(rows.map((inputs) => app.infer('digits', { inputs })))
    for (const [index, result] of results.entries()) same(valuesOf(result), expected[index]!)
    expect(new Set(results.map(({ id }) => id)).size).toBe(24)
    expect(Math.max(...results.map(({ timing }) => timing.batchSize))).toBeGreaterThan(1)
    const after = app.gateway.stats('digits')[0]!
    expect(after.inferenceCount - before.inferenceCount).toBe(24)
    expect(after.executionCount - before.executionCount).toBeLessThan(24)
    expect(after.batches.some(({ batchSize, count }) => batchSize > 1 && count > 0)).toBe(true)
  })

  it('of requests of several rows stay together', async () => {
    const counts = [1, 3, 2, 4, 1]
    const values = counts.map((_, index) => index + 1)
    const results = await Promise.all(counts.map((count, index) => app.infer('scale', { inputs: filled(values[index]!, count), variant: 'fp32' })))
    for (const [index, result] of results.entries()) {
      expect(result.outputs['y']?.dims).toEqual([counts[index], 4])
      expect(valuesOf(result)).toEqual(new Array(counts[index]! * 4).fill(values[index]! * 2))
    }
    expect(Math.max(...results.map(({ timing }) => timing.batchSize))).toBeGreaterThan(4)
  })

  it('are right for noise of any batch size', async () => {
    const session = await openSession('models/digits/1/model.onnx')
    for (const batch of [1, 5, 33]) {
      const feeds = syntheticFeeds(session.inputs, { batch, seed: batch })
      const result = await app.infer('digits', { inputs: feeds })
      same(valuesOf(result), [...(Object.values(await session.run(feeds))[0]!.data as Float32Array)])
    }
    await session.release()
  })

  it('are refused for inputs that do not fit, and only to who sent those', async () => {
    const [good, bad, good2] = await Promise.allSettled([
      app.infer('scale', { inputs: filled(1) }),
      app.infer('scale', { inputs: { x: { dtype: 'float32', dims: [1, 5], data: new Float32Array(5) } } }),
      app.infer('scale', { inputs: filled(3) }),
    ])
    expect(good).toMatchObject({ status: 'fulfilled' })
    expect(good2).toMatchObject({ status: 'fulfilled' })
    expect(bad).toMatchObject({ status: 'rejected', reason: { code: 'invalid_input' } })
    await expect(app.infer('scale', { inputs: { x: { dtype: 'float32', dims: [0, 4], data: new Float32Array() } } })).rejects.toMatchObject({
      code: 'invalid_input',
    })
    await expect(app.infer('nobody', { inputs: filled(1) })).rejects.toMatchObject({ code: 'model_not_found' })
    await expect(app.infer('scale', { inputs: filled(1), version: '9' })).rejects.toMatchObject({ code: 'model_not_found' })
  })
})

describe('the SLA', () => {
  const ask = (sla: object, more: object = {}) => app.infer('scale', { inputs: filled(1), sla, ...more })

  it('without a deadline gets the most faithful variant', async () => {
    expect(await ask({})).toMatchObject({ variant: 'fp32', fidelity: 1 })
  })

  it('gets the most faithful variant that is fast enough', async () => {
    expect(await ask({ latencyMs: 5000 })).toMatchObject({ variant: 'fp32' })
    expect(await ask({ latencyMs: 500 })).toMatchObject({ variant: 'half', fidelity: 0.9 })
    expect(await ask({ latencyMs: 80 })).toMatchObject({ variant: 'rough', fidelity: 0.6 })
  })

  it('that nothing meets is refused where the client says reject', async () => {
    for (const sla of [{ latencyMs: 500, minFidelity: 0.95 }, { latencyMs: 0.001 }]) {
      await expect(ask({ ...sla, onMiss: 'reject' })).rejects.toMatchObject({ code: 'sla_unmet', status: 503, retryAfterS: expect.any(Number) as number })
    }
  })

  it('that nothing meets is answered late by the fastest permitted, and the answer says so', async () => {
    expect(await ask({ latencyMs: 0.001 })).toMatchObject({ variant: 'rough', route: { deadlineMet: false } })
    expect(await ask({ latencyMs: 0.001, onMiss: 'degrade', minFidelity: 0.7 })).toMatchObject({ variant: 'half', route: { deadlineMet: false } })
  })

  it('that nothing meets, where nothing can be built, is answered at once under wait', async () => {
    expect(await ask({ latencyMs: 0.001, onMiss: 'wait' })).toMatchObject({ variant: 'rough', route: { deadlineMet: false } })
  })

  it('never gets a variant below its minimum fidelity, and the numbers are those of the variant named', async () => {
    const sla = fc.record(
      {
        latencyMs: fc.constantFrom(0.001, 10, 80, 500, 5000),
        minFidelity: fc.constantFrom(0, 0.5, 0.6, 0.75, 0.9, 0.95, 1),
        priority: fc.integer({ min: 0, max: 9 }),
        onMiss: fc.constantFrom('degrade' as const, 'reject' as const, 'wait' as const),
      },
      { requiredKeys: [] },
    )
    await fc.assert(
      fc.asyncProperty(fc.array(sla, { minLength: 1, maxLength: 12 }), async (slas) => {
        const results = await Promise.allSettled(slas.map((each, index) => app.infer('scale', { inputs: filled(index + 1), sla: each })))
        for (const [index, result] of results.entries()) {
          const { latencyMs, minFidelity = 0, onMiss } = slas[index]!
          if (result.status === 'rejected') {
            expect(result.reason).toMatchObject({ status: expect.any(Number) as number })
            expect([onMiss, ['sla_unmet', 'deadline_passed']]).toEqual(['reject', expect.arrayContaining([(result.reason as { code: string }).code])])
            continue
          }
          const { variant, fidelity, timing, route } = result.value
          expect(fidelity).toBeGreaterThanOrEqual(minFidelity)
          expect(fidelity).toBe(fidelities[variant])
          expect(variant).not.toBe('small')
          expect(valuesOf(result.value)).toEqual(new Array(4).fill((index + 1) * factors[variant]!))
          expect(route.deadlineMet).toBe(latencyMs === undefined || timing.totalMs <= latencyMs)
        }
      }),
      { seed: 11, numRuns: 15 },
    )
  })

  it('of an impossible fidelity is refused with what each variant lacks', async () => {
    app.catalog.setState('scale:1:fp32', 'quarantined', 'it took down 2 lanes')
    const refused = ask({ minFidelity: 0.95 })
    await expect(refused).rejects.toMatchObject({
      code: 'sla_unmet',
      message: expect.stringMatching(/fp32: it is quarantined.*half: its fidelity 0\.9/) as string,
    })
    app.catalog.setState('scale:1:fp32', 'ready', '')
  })

  it('defaults to what model.yaml says, field by field', async () => {
    app.put('scale/model.yaml', 'policy: { onDemand: [] }\nsla: { latencyMs: 500, minFidelity: 0.7 }\n')
    await app.repository.load('scale')
    expect(await ask({})).toMatchObject({ variant: 'half' })
    expect(await ask({ latencyMs: 5000 })).toMatchObject({ variant: 'fp32' })
    expect(await ask({ latencyMs: 80, minFidelity: 0 })).toMatchObject({ variant: 'rough' })
    app.put('scale/model.yaml', 'policy: { onDemand: [] }\n')
    await app.repository.load('scale')
  })

  it('is explained without running anything', () => {
    const before = app.gateway.stats('scale')[0]!.inferenceCount
    expect(app.gateway.explain({ model: 'scale', sla: { latencyMs: 500 } })).toMatchObject({ chosen: 'half', wouldBuild: undefined })
    const refused = app.gateway.explain({ model: 'scale', sla: { latencyMs: 0.001, onMiss: 'reject' } })
    expect(refused.chosen).toBeUndefined()
    expect(refused.considered.map(({ variant }) => variant)).toEqual(['fp32', 'half', 'rough', 'small'])
    expect(app.gateway.stats('scale')[0]!.inferenceCount).toBe(before)
  })
})

describe('a pinned variant', () => {
  it('answers, whatever else would be chosen', async () => {
    for (const variant of ['rough', 'half', 'small', 'fp32']) {
      const result = await app.infer('scale', { inputs: filled(1), variant, sla: { latencyMs: 5000 } })
      expect(result).toMatchObject({ variant, fidelity: fidelities[variant] })
      expect(valuesOf(result)).toEqual(new Array(4).fill(factors[variant]))
    }
  })

  it('that does not exist, or may not serve, is not found', async () => {
    await expect(app.infer('scale', { inputs: filled(1), variant: 'int4' })).rejects.toMatchObject({
      code: 'variant_not_found',
      message: expect.stringContaining('fp32, half, rough, small') as string,
      errors: [{ pointer: '/variant' }],
    })
    app.catalog.setState('scale:1:half', 'rejected', 'it is slower')
    await expect(app.infer('scale', { inputs: filled(1), variant: 'half' })).rejects.toMatchObject({
      code: 'variant_not_found',
      message: expect.stringContaining('it is rejected: it is slower') as string,
    })
    app.catalog.setState('scale:1:half', 'ready', '')
  })

  it('that goes while requests wait for it fails those, and holds up nobody else', async () => {
    await app.addVariant('passing', { factor: 4, fidelity: 0.8, ms: 1 })
    const busy = occupy()
    const pinned = app.infer('scale', { inputs: filled(1), variant: 'passing' })
    const others = [1, 2, 3].map((value) => app.infer('scale', { inputs: filled(value), variant: 'fp32' }))
    app.catalog.deleteVariant('scale:1:passing')
    const [gone, ...answers] = await Promise.allSettled([pinned, ...others])
    expect(gone).toMatchObject({ status: 'rejected', reason: { code: 'sla_unmet' } })
    expect(answers.map(({ status }) => status)).toEqual(['fulfilled', 'fulfilled', 'fulfilled'])
    await busy
  })
})

describe('the queue', () => {
  it('is bounded, says when to come again, and is left by who aborts', async () => {
    const busy = occupy()
    const controllers = Array.from({ length: 40 }, () => new AbortController())
    const waiting = controllers.map(({ signal }) => app.infer('scale', { inputs: filled(1), signal }))
    const refused = app.infer('scale', { inputs: filled(1) })
    // Another model's queue is its own.
    const elsewhere = app.infer('changing', { inputs: filled(1) })
    for (const controller of controllers) controller.abort()
    // Their places are free again at once, and no more than theirs.
    const next = Array.from({ length: 40 }, () => app.infer('scale', { inputs: filled(2) }))
    const tooMany = app.infer('scale', { inputs: filled(2) })
    for (const each of [refused, tooMany]) {
      await expect(each).rejects.toMatchObject({ code: 'overloaded', status: 503 })
      expect(await each.catch((error: { retryAfterS: number }) => error.retryAfterS)).toBeGreaterThanOrEqual(1)
    }
    for (const each of await Promise.allSettled(waiting)) expect(each).toMatchObject({ status: 'rejected', reason: { code: 'cancelled' } })
    for (const result of await Promise.all(next)) expect(valuesOf(result)).toEqual(new Array(4).fill(2 * factors[result.variant]!))
    expect(valuesOf(await elsewhere)).toEqual([5, 5, 5, 5])
    await busy
  })

  it('refuses a client that had left already, and runs nothing for it', async () => {
    const before = app.gateway.stats('scale')[0]!.inferenceCount
    await expect(app.infer('scale', { inputs: filled(1), signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'cancelled' })
    expect(app.gateway.stats('scale')[0]!.inferenceCount).toBe(before)
  })

  it('refuses, under reject, what is late because of others', async () => {
    const busy = occupy()
    // Until the lane has taken the count: a deadline would go first.
    for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setImmediate(resolve))
    const late = app.infer('scale', { inputs: filled(1), sla: { latencyMs: 20, onMiss: 'reject' } })
    const code = await late.catch((error: { code: string }) => error.code)
    expect(['sla_unmet', 'deadline_passed']).toContain(code)
    await busy
  })
})

describe('a version whose file is replaced', () => {
  it('answers with the new file from then on, though the old one was in memory', async () => {
    expect(valuesOf(await app.infer('changing', { inputs: filled(1) }))).toEqual([5, 5, 5, 5])
    app.put('changing/1/model.onnx', scaleModel(7))
    await app.repository.load('changing')
    for (let time = 0; time < 3; time++) expect(valuesOf(await app.infer('changing', { inputs: filled(1) }))).toEqual([7, 7, 7, 7])
  })
})
