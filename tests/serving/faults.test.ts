// What may go wrong or change under load: lanes die and hang, versions come, builds run, the gateway stops.
// Whoever was accepted gets an answer.
import { Worker } from 'node:worker_threads'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { model, node, tensorProto, valueInfo } from '#flyweight/onnx/builder.js'
import { encodeModel } from '#flyweight/onnx/proto.js'
import { openSession } from '#flyweight/runtime/session.js'
import { syntheticFeeds } from '#flyweight/runtime/sample-inputs.js'
import { countingModel, filled, startApp, times, valuesOf, type TestApp } from './app.js'
import { scaleModel } from '../scale-model.js'

let app: TestApp
afterEach(async () => {
  vi.restoreAllMocks()
  await app.stop()
})

const noBuilds = 'policy: { onDemand: [] }\n'
const scale = { 'scale/1/model.onnx': scaleModel(2), 'scale/model.yaml': noBuilds }

/** Ends the thread that the next runs are sent to, before it can answer: `deaths` times. */
function killRunningLane(deaths: number): { killed: () => number } {
  const post = Worker.prototype.postMessage
  let killed = 0
  vi.spyOn(Worker.prototype, 'postMessage').mockImplementation(function (this: Worker, ...message) {
    if ((message[0] as { op?: string }).op !== 'run' || killed >= deaths) return post.apply(this, message)
    killed += 1
    void this.terminate()
  })
  return { killed: () => killed }
}

describe('a lane that dies during a run', () => {
  it('costs nobody an answer: its requests are run again on the lane that takes its place', async () => {
    app = await startApp(scale)
    const lane = killRunningLane(1)
    const results = await Promise.all([1, 2, 3, 4, 5].map((value) => app.infer('scale', { inputs: filled(value) })))
    expect(lane.killed()).toBe(1)
    expect(results.map((result) => valuesOf(result)[0])).toEqual([2, 4, 6, 8, 10])
    expect(app.gateway.cache().evictions).toMatchObject({ 'lane-lost': 1 })
    expect(valuesOf(await app.infer('scale', { inputs: filled(7) }))).toEqual([14, 14, 14, 14])
    expect(app.catalog.variant('scale:1:fp32')?.state).toBe('ready')
  })

  it('twice fails the request, and takes the variant that did it out of service', async () => {
    app = await startApp(scale)
    await app.addVariant('lethal', { factor: 3, fidelity: 0.9, ms: 1 })
    killRunningLane(2)
    await expect(app.infer('scale', { inputs: filled(1), variant: 'lethal' })).rejects.toMatchObject({ code: 'inference_failed', status: 500 })
    expect(app.catalog.variant('scale:1:lethal')).toMatchObject({ state: 'quarantined', reason: 'it took down 2 lanes' })
    await expect(app.infer('scale', { inputs: filled(1), variant: 'lethal' })).rejects.toMatchObject({ code: 'variant_not_found' })
    expect(valuesOf(await app.infer('scale', { inputs: filled(1) }))).toEqual([2, 2, 2, 2])
  })
})

describe('a run that hangs', () => {
  it('is given up after runTimeoutMs; the others are served by a new lane', async () => {
    app = await startApp({ ...scale, 'count/1/model.onnx': countingModel() }, { serving: { runTimeoutMs: 1000 } })
    const hanging = app.infer('count', { inputs: times(8_000_000) })
    const behind = [1, 2].map((value) => app.infer('scale', { inputs: filled(value) }))
    await expect(hanging).rejects.toMatchObject({ code: 'run_timeout', status: 504 })
    expect((await Promise.all(behind)).map((result) => valuesOf(result)[0])).toEqual([2, 4])
    expect(valuesOf(await app.infer('count', { inputs: times(10) }))).toEqual([10])
  })
})

describe('a new version under load', () => {
  it('takes over without one failed request, and none is answered by another than it names', async () => {
    app = await startApp(scale, { models: { watch: true } })
    const factors: Record<string, number> = { '1': 2, '2': 3 }
    const served: string[] = []
    let done = false
    const client = async (value: number) => {
      while (!done) {
        const result = await app.infer('scale', { inputs: filled(value) })
        expect(valuesOf(result)).toEqual(new Array(4).fill(value * factors[result.version]!))
        served.push(result.version)
        await new Promise((resolve) => setTimeout(resolve, 2))
      }
    }
    const clients = [1, 2, 3, 4].map(client)
    const ended = Promise.all(clients)
    await Promise.race([ended, vi.waitFor(() => expect(served).toContain('1'), 20_000)])
    app.put('scale/2/model.onnx', scaleModel(3))
    await Promise.race([ended, vi.waitFor(() => expect(served).toContain('2'), 30_000)])
    // And one that is broken takes over nothing.
    app.put('scale/3/model.onnx', 'not a model')
    await Promise.race([
      ended,
      vi.waitFor(() => expect(app.repository.list()).toContainEqual(expect.objectContaining({ version: '3', state: 'UNAVAILABLE' })), 30_000),
    ])
    done = true
    await ended
    expect(served.at(-1)).toBe('2')
    expect(served.lastIndexOf('1')).toBeLessThan(served.length - 1)
  })
})

const width = 768
/** Six dense layers: weights enough that int8 makes them faster on most machines. */
function denseModel(seed: number): Uint8Array<ArrayBuffer> {
  const layers = Array.from({ length: 6 }, (_, index) => index)
  let state = seed
  // Roughly keeps the variance from layer to layer.
  const scaleBy = Math.sqrt(6 / width)
  const weights = () =>
    Float32Array.from({ length: width * width }, () => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0
      return (state / 2 ** 31 - 1) * scaleBy
    })
  return encodeModel(
    model({
      inputs: [valueInfo('x', 'float32', ['n', width])],
      outputs: [valueInfo('y', 'float32', ['n', width])],
      nodes: layers.flatMap((layer) => [
        node('MatMul', [layer === 0 ? 'x' : `h${layer}`, `w${layer}`], [`m${layer}`]),
        node('Relu', [`m${layer}`], [layer === layers.length - 1 ? 'y' : `h${layer + 1}`]),
      ]),
      initializers: layers.map((layer) => tensorProto(`w${layer}`, 'float32', [width, width], weights())),
    }),
  )
}

const row = (seed: number) => syntheticFeeds([{ name: 'x', dtype: 'float32', dims: ['n', width] }], { batch: 1, seed })
const tight = { latencyMs: 0.001, onMiss: 'wait' } as const

describe('a build on demand', () => {
  it('is waited for, then answers, and is there for whoever pins it', async () => {
    app = await startApp({ 'dense/1/model.onnx': denseModel(1), 'dense/model.yaml': 'policy: { minFidelity: 0 }\n' })
    const [first, second] = await Promise.all([1, 2].map((seed) => app.infer('dense', { inputs: row(seed), sla: tight })))
    expect(first!.route.reason).toContain('waited for int8')
    expect(second!.route.reason).toContain('waited for int8')
    // Two requests, one build.
    expect(app.jobs.list({}).filter(({ kind }) => kind === 'compress')).toHaveLength(1)
    const int8 = app.catalog.variant('dense:1:int8')!
    expect(['ready', 'rejected']).toContain(int8.state)
    expect(int8.fidelity.score).toBeGreaterThan(0)
    // Whether it is faster depends on the machine: what its gate says decides who may answer.
    if (int8.state === 'rejected') {
      expect(first!.variant).toBe('fp32')
      expect(int8.reason).not.toBe('')
      return
    }
    const pinned = await app.infer('dense', { inputs: row(1), variant: 'int8' })
    const session = await openSession(int8.file)
    const { y } = await session.run(row(1))
    await session.release()
    const expected = y!.data as Float32Array
    for (const [index, value] of valuesOf(pinned).entries()) expect(value).toBeCloseTo(expected[index]!, 3)
    // What was built is not built again.
    await app.infer('dense', { inputs: row(3), sla: tight })
    await app.settled()
    expect(app.jobs.list({}).filter(({ kind }) => kind === 'compress')).toHaveLength(1)
  })

  it('of a file that is replaced meanwhile makes no variant of the file after it', async () => {
    app = await startApp({ 'dense/1/model.onnx': denseModel(1), 'dense/model.yaml': 'policy: { minFidelity: 0 }\n' })
    await app.infer('dense', { inputs: row(1), sla: { latencyMs: 0.001 } })
    expect(app.jobs.list({}).filter(({ kind }) => kind === 'compress')).toMatchObject([{ state: expect.stringMatching(/queued|running/) as string }])
    app.put('dense/1/model.onnx', denseModel(2))
    await app.repository.load('dense')
    await app.settled()
    expect(app.catalog.variants('dense', '1')).toMatchObject([{ name: 'fp32', digest: app.repository.resolve('dense').digest }])
    expect(app.jobs.list({}).find(({ kind }) => kind === 'compress')).toMatchObject({ state: 'failed', error: { code: 'conflict' } })
  })
})

describe('draining', () => {
  it('answers what was accepted and refuses what comes after', async () => {
    app = await startApp({ ...scale, 'count/1/model.onnx': countingModel() })
    const busy = app.infer('count', { inputs: times(200_000) })
    const accepted = [1, 2, 3].map((value) => app.infer('scale', { inputs: filled(value) }))
    expect(app.gateway.ready()).toBe(true)
    const drained = app.gateway.drain(30_000)
    expect(app.gateway.ready()).toBe(false)
    await expect(app.infer('scale', { inputs: filled(9) })).rejects.toMatchObject({ code: 'draining', status: 503, retryAfterS: expect.any(Number) as number })
    let answered = 0
    for (const each of [busy, ...accepted]) void each.then(() => (answered += 1))
    await drained
    expect(answered).toBe(4)
    expect((await Promise.all(accepted)).map((result) => valuesOf(result)[0])).toEqual([2, 4, 6])
  })

  it('does not wait for builds: who waited for one is answered without it', async () => {
    app = await startApp({ 'dense/1/model.onnx': denseModel(1) })
    const waiting = app.infer('dense', { inputs: row(1), sla: tight })
    // Accepted, and its build begun.
    expect(app.jobs.list({}).filter(({ kind }) => kind === 'compress')).toHaveLength(1)
    await app.close({ graceMs: 0 })
    expect(await waiting).toMatchObject({ variant: 'fp32', route: { deadlineMet: false } })
  })
})
