// The executor of sharded models on hosts that tests hold back, answer and kill: any dataflow gives what computing it
// at once gives, bounds are kept, and a host that dies takes along only who needs it.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { FlyweightError } from '#flyweight/errors.js'
import { Pipeline, type PipelineStage, type StageRun } from '#flyweight/shard/pipeline.js'
import type { StageIo } from '#flyweight/shard/routes.js'
import { FakeHost, rowsOf, turns } from './hosts.js'
import type { Feeds } from './stages.js'

/** Each output of a stage is the weighted sum of what the stage reads, plus a number of its own. */
function compute(stages: readonly StageIo[]) {
  return (key: string, feeds: Feeds): Feeds => {
    const { inputs, outputs } = stages[Number(key)]!
    return Object.fromEntries(
      outputs.map((name, index) => {
        const first = feeds[inputs[0]!]!
        const data = Float32Array.from(first.data as Float32Array, (_, at) =>
          inputs.reduce((sum, input, place) => sum + (place + 1) * (feeds[input]!.data[at] as number), index + Number(key)),
        )
        return [name, { dtype: 'float32', dims: first.dims, data }]
      }),
    )
  }
}

function expected(stages: readonly StageIo[], io: StageIo, feeds: Feeds): Feeds {
  const values = { ...feeds }
  for (const [index, { inputs }] of stages.entries()) {
    Object.assign(values, compute(stages)(String(index), Object.fromEntries(inputs.map((name) => [name, values[name]!]))))
  }
  return Object.fromEntries(io.outputs.map((name) => [name, values[name]!]))
}

/** Stages that read any of what is there before them. */
const flows = fc
  .array(fc.record({ reads: fc.uniqueArray(fc.nat(20), { minLength: 1, maxLength: 4 }), writes: fc.integer({ min: 1, max: 2 }) }), {
    minLength: 1,
    maxLength: 6,
  })
  .map((drawn) => {
    const names = ['in0', 'in1']
    const stages = drawn.map(({ reads, writes }, stage): StageIo => {
      const inputs = [...new Set(reads.map((read) => names[read % names.length]!))]
      const outputs = Array.from({ length: writes }, (_, index) => `s${stage}o${index}`)
      names.push(...outputs)
      return { inputs, outputs }
    })
    return { stages, names }
  })

function chain(count: number): StageIo[] {
  return Array.from({ length: count }, (_, stage) => ({ inputs: [`v${stage}`], outputs: [`v${stage + 1}`] }))
}

function chained(
  count: number,
  options: { microBatch?: number; inFlight?: number; batchable?: boolean; memoryBytes?: number; onStageRun?(run: StageRun): void } = {},
) {
  const ios = chain(count)
  const hosts = ios.map((_, index) => new FakeHost(`cpu:${index}`, compute(ios)))
  const stages = ios.map((io, index): PipelineStage => ({ key: String(index), host: hosts[index]!, ...io }))
  const pipeline = new Pipeline({ stages, inputs: ['v0'], outputs: [`v${count}`], batchable: true, ...options })
  const wanted = (feeds: Feeds) => expected(ios, { inputs: ['v0'], outputs: [`v${count}`] }, feeds)
  return { pipeline, hosts, stages, ios, wanted }
}

/** Answers whatever hosts hold, in the order that `choose` draws, until nothing is held any more. */
async function answerAll(hosts: readonly FakeHost[], choose: (count: number) => number = () => 0): Promise<void> {
  for (;;) {
    await turns()
    const busy = hosts.filter(({ held }) => held.length > 0)
    if (busy.length === 0) return
    // A device answers in the order in which it was asked.
    busy[choose(busy.length)]!.held[0]!.answer()
  }
}

describe('pipelines', () => {
  it('give what computing at once gives, for any dataflow, micro-batches, hosts, and order of answers', async () => {
    const cases = fc.record({
      flow: flows,
      hostCount: fc.integer({ min: 1, max: 3 }),
      microBatch: fc.integer({ min: 1, max: 5 }),
      inFlight: fc.integer({ min: 1, max: 5 }),
      rows: fc.array(fc.integer({ min: 1, max: 7 }), { minLength: 1, maxLength: 4 }),
      outputs: fc.uniqueArray(fc.nat(20), { minLength: 1, maxLength: 4 }),
      shared: fc.boolean(),
      order: fc.infiniteStream(fc.nat(100)),
    })
    await fc.assert(
      fc.asyncProperty(cases, async ({ flow: { stages, names }, hostCount, microBatch, inFlight, rows, outputs, shared, order }) => {
        const io = { inputs: ['in0', 'in1'], outputs: [...new Set(outputs.map((index) => names[index % names.length]!))] }
        const hosts = Array.from({ length: hostCount }, (_, index) => new FakeHost(`cpu:${index}`, compute(stages)))
        const placed = stages.map((stage, index): PipelineStage => ({ key: String(index), host: hosts[index % hostCount]!, ...stage }))
        const pipeline = new Pipeline({ ...io, stages: placed, batchable: true, microBatch, inFlight })
        const feedSets = rows.map((count, run): Feeds => {
          const [in0, in1] = [rowsOf(run, count), rowsOf(run + 50, count)]
          if (!shared) return { in0, in1 }
          const both = new Float32Array(count * 4)
          both.set(in0.data as Float32Array)
          both.set(in1.data as Float32Array, count * 2)
          return { in0: { ...in0, data: both.subarray(0, count * 2) }, in1: { ...in1, data: both.subarray(count * 2) } }
        })
        const wanted = feedSets.map((feeds) => expected(stages, io, feeds))
        let most = 0
        const running = feedSets.map((feeds) => pipeline.run(feeds))
        await answerAll(hosts, (count) => {
          most = Math.max(most, pipeline.inFlight)
          return order.next().value % count
        })
        for (const [index, { outputs: given }] of (await Promise.all(running)).entries()) {
          expect(Object.keys(given)).toEqual(io.outputs)
          for (const name of io.outputs) {
            expect(given[name]!.dims).toEqual(wanted[index]![name]!.dims)
            expect([...(given[name]!.data as Float32Array)]).toEqual([...(wanted[index]![name]!.data as Float32Array)])
          }
        }
        expect(most).toBeLessThanOrEqual(inFlight)
        expect(pipeline.inFlight).toBe(0)
        for (const host of hosts) expect(host.most).toBeLessThanOrEqual(2)
      }),
      { numRuns: 100, seed: 5 },
    )
  })

  it('begin no more micro-batches than may be under way, and the next when one is through', async () => {
    const { pipeline, hosts, wanted } = chained(3, { microBatch: 1, inFlight: 2 })
    const feeds = { v0: rowsOf(1, 5) }
    const answer = wanted(feeds)
    const running = pipeline.run(feeds)
    await turns()
    expect([pipeline.inFlight, hosts[0]!.held.length]).toEqual([2, 2])
    hosts[0]!.held[0]!.answer()
    await turns()
    expect([pipeline.inFlight, hosts[0]!.held.length, hosts[1]!.held.length]).toEqual([2, 1, 1])
    hosts[1]!.held[0]!.answer()
    await turns()
    hosts[2]!.held[0]!.answer()
    await turns()
    expect([pipeline.inFlight, hosts[0]!.held.length]).toEqual([2, 2])
    await answerAll(hosts)
    expect((await running).outputs).toEqual(answer)
  })

  it('give every run its turn: a small one behind a large one does not wait for all of it', async () => {
    const { pipeline, hosts } = chained(2, { microBatch: 1, inFlight: 2 })
    const ended: string[] = []
    const running = [pipeline.run({ v0: rowsOf(1, 20) }).then(() => ended.push('large')), pipeline.run({ v0: rowsOf(2, 2) }).then(() => ended.push('small'))]
    await answerAll(hosts)
    await Promise.all(running)
    expect(ended).toEqual(['small', 'large'])
  })

  it('answer runs of equal size in the order in which they came, and older micro-batches first on a host with several stages', async () => {
    const ios = chain(2)
    const host = new FakeHost('cpu:0', compute(ios))
    const stages = ios.map((io, index): PipelineStage => ({ key: String(index), host, ...io }))
    const pipeline = new Pipeline({ stages, inputs: ['v0'], outputs: ['v2'], batchable: false, inFlight: 4 })
    const ended: number[] = []
    const running = [0, 1, 2, 3].map((run) => pipeline.run({ v0: rowsOf(run, 1) }).then(() => ended.push(run)))
    await turns()
    expect(host.held.map(({ key }) => key)).toEqual(['0', '0'])
    host.held[0]!.answer()
    await turns()
    expect(host.held.map(({ key }) => key)).toEqual(['0', '1'])
    await answerAll([host])
    await Promise.all(running)
    expect(ended).toEqual([0, 1, 2, 3])
  })

  it('run a model that does not batch as one micro-batch, and fill the stages from several runs', async () => {
    const { pipeline, hosts } = chained(2, { microBatch: 1, batchable: false })
    const running = [1, 2].map((run) => pipeline.run({ v0: rowsOf(run, 6) }))
    await turns()
    hosts[0]!.held[0]!.answer()
    await turns()
    expect(hosts.map(({ held }) => held.length)).toEqual([1, 1])
    await answerAll(hosts)
    for (const { outputs } of await Promise.all(running)) expect(outputs['v2']!.dims).toEqual([6, 2])
  })

  it('run only the stages that the outputs asked for need, and fetch no more from them', async () => {
    const stages: StageIo[] = [
      { inputs: ['x'], outputs: ['a', 'b'] },
      { inputs: ['a'], outputs: ['left'] },
      { inputs: ['b'], outputs: ['right'] },
    ]
    const io = { inputs: ['x'], outputs: ['left', 'right', 'x'] }
    const host = new FakeHost('cpu:0', compute(stages))
    const pipeline = new Pipeline({ ...io, stages: stages.map((stage, index) => ({ key: String(index), host, ...stage })), batchable: true })
    const running = pipeline.run({ x: rowsOf(1, 2) }, ['right'])
    await turns()
    expect(host.held).toMatchObject([{ key: '0', fetches: ['b'] }])
    host.held[0]!.answer()
    await turns()
    expect(host.held).toMatchObject([{ key: '2', fetches: undefined }])
    await answerAll([host])
    expect(Object.keys((await running).outputs)).toEqual(['right'])
    expect((await pipeline.run({ x: rowsOf(3, 2) }, ['x'])).outputs).toEqual({ x: rowsOf(3, 2) })
    await expect(pipeline.run({ x: rowsOf(1, 2) }, ['middle'])).rejects.toMatchObject({ code: 'invalid_input', message: /"middle" does not exist/ })
  })

  it('tell of every stage run its bytes, its time and who waits behind it', async () => {
    const told: StageRun[] = []
    const { pipeline, hosts } = chained(2, { microBatch: 2, onStageRun: (run) => told.push(run) })
    const running = pipeline.run({ v0: rowsOf(1, 8) })
    await answerAll(hosts)
    await running
    expect(told).toHaveLength(8)
    expect(told[0]).toMatchObject({ stage: 0, key: '0', host: 'cpu:0', rows: 2, busyMs: 1, inBytes: 16, outBytes: 16, queued: 2 })
    expect(told.at(-1)).toMatchObject({ stage: 1, host: 'cpu:1', queued: 0 })
    for (const { waitMs } of told) expect(waitMs).toBeGreaterThanOrEqual(0)
  })

  it('let go of what hosts gave as soon as it was read, and hold nothing of runs that failed', async () => {
    const { pipeline, hosts } = chained(3, { microBatch: 1, inFlight: 3, memoryBytes: 0 })
    const running = Promise.allSettled([pipeline.run({ v0: rowsOf(1, 3) }), pipeline.run({ v0: rowsOf(2, 3) })])
    await turns()
    hosts[0]!.held[1]!.fail(new Error('once'))
    await answerAll(hosts)
    expect((await running).map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected'])
    const given = hosts.flatMap((host) => host.given)
    expect(given.length).toBeGreaterThan(18)
    expect(given.filter(({ byteLength }) => byteLength > 0)).toEqual([])
  })

  it('offer hosts memory that was used before for what they will give', async () => {
    const { pipeline, hosts } = chained(2, { microBatch: 1 })
    for (const offered of [0, 8]) {
      const running = pipeline.run({ v0: rowsOf(1, 3) })
      await turns()
      expect(hosts[0]!.held[0]!.memory.reduce((sum, { byteLength }) => sum + byteLength, 0)).toBe(offered)
      await answerAll(hosts)
      expect((await running).outputs['v2']!.dims).toEqual([3, 2])
    }
  })

  it('give memory back: a copied batch at once, a moved one when it comes back', async () => {
    const { pipeline, hosts } = chained(1, { microBatch: 2 })
    const feeds = (rows: number) => ({ v0: { ...rowsOf(1, rows), data: new Float32Array(new ArrayBuffer(2 ** 20), 0, rows * 2) } })
    for (const rows of [4, 2]) {
      const running = pipeline.run(feeds(rows))
      await answerAll(hosts)
      expect((await running).spent.map(({ byteLength }) => byteLength)).toEqual([2 ** 20])
    }
  })
})

describe('what goes wrong in a pipeline', () => {
  it('is said of feeds that do not fit, before anything runs', async () => {
    const stages = [{ inputs: ['a', 'b'], outputs: ['c'] }]
    const host = new FakeHost('cpu:0', compute(stages))
    const pipeline = new Pipeline({ stages: [{ key: '0', host, ...stages[0]! }], inputs: ['a', 'b'], outputs: ['c'], batchable: true })
    await expect(pipeline.run({ a: rowsOf(1, 2) })).rejects.toMatchObject({ code: 'invalid_input', message: /"b" is missing/ })
    const uneven = pipeline.run({ a: rowsOf(1, 2), b: rowsOf(1, 3) })
    await expect(uneven).rejects.toMatchObject({ code: 'invalid_input', message: 'inputs differ in rows: "a" has 2, "b" has 3' })
    expect(host.most).toBe(0)
    expect(() => new Pipeline({ stages: [{ key: '0', host, ...stages[0]! }], inputs: ['a'], outputs: ['c'], batchable: true })).toThrow(/"b" is read/)
  })

  it('fails the run whose stage failed, once, and no other', async () => {
    const { pipeline, hosts, wanted } = chained(2, { microBatch: 1, inFlight: 4 })
    const good = wanted({ v0: rowsOf(2, 2) })
    const [bad, other] = [pipeline.run({ v0: rowsOf(1, 3) }), pipeline.run({ v0: rowsOf(2, 2) })]
    await turns()
    hosts[0]!.held[0]!.fail(new FlyweightError('invalid_input', 'a bad row'))
    await expect(bad).rejects.toMatchObject({ code: 'invalid_input', message: 'a bad row' })
    await answerAll(hosts)
    expect((await other).outputs).toEqual(good)
    expect(pipeline.inFlight).toBe(0)
  })

  it('is told when outputs have other rows than the micro-batch, or are missing', async () => {
    const stage = { inputs: ['x'], outputs: ['y'] }
    const answers: Feeds[] = [{ y: rowsOf(0, 3) }, {}]
    const host = new FakeHost('cpu:0', () => answers.shift()!)
    const pipeline = new Pipeline({ stages: [{ key: '0', host, ...stage }], inputs: ['x'], outputs: ['y'], batchable: true, microBatch: 1, inFlight: 1 })
    for (const message of ['output "y" has 3 rows for a micro-batch of 1', 'output "y" of a stage is missing, got none']) {
      const running = pipeline.run({ x: rowsOf(1, 2) })
      await turns()
      host.held[0]!.answer()
      await expect(running).rejects.toMatchObject({ code: 'inference_failed', message })
    }
    expect(pipeline.inFlight).toBe(0)
  })

  it('is a lost host: runs past it end well, those before it fail, and a host in its place serves the next', async () => {
    const { pipeline, hosts, stages, ios, wanted } = chained(3, { inFlight: 4 })
    const [first, second, third] = hosts as [FakeHost, FakeHost, FakeHost]
    const answer = wanted({ v0: rowsOf(1, 2) })
    const running = [1, 2, 3].map((run) => pipeline.run({ v0: rowsOf(run, 2) }))
    await turns()
    first.held[0]!.answer()
    await turns()
    second.held[0]!.answer()
    first.held[0]!.answer()
    await turns()
    // One run on each host.
    second.lose('it exited with code 1')
    await expect(running[1]).rejects.toMatchObject({ code: 'inference_failed' })
    await expect(running[2]).rejects.toMatchObject({ code: 'inference_failed', message: 'device cpu:1 is gone: it exited with code 1' })
    await expect(pipeline.run({ v0: rowsOf(4, 2) })).rejects.toMatchObject({ message: /cpu:1 is gone/ })
    await answerAll(hosts)
    expect((await running[0]!).outputs).toEqual(answer)

    const successor = new FakeHost('cpu:1', compute(ios))
    pipeline.replace(stages[1]!.host, successor)
    const after = pipeline.run({ v0: rowsOf(1, 2) })
    await answerAll([first, successor, third])
    expect((await after).outputs).toEqual(answer)
    expect(pipeline.inFlight).toBe(0)
  })

  it('is a host that hangs: it can be told, and given up', async () => {
    const { pipeline, hosts } = chained(2)
    const running = pipeline.run({ v0: rowsOf(1, 1) })
    await turns()
    expect(pipeline.hung(0)).toEqual([hosts[0]])
    expect(pipeline.hung(60_000)).toEqual([])
    hosts[0]!.lose('it was given up')
    await expect(running).rejects.toMatchObject({ code: 'inference_failed' })
    await turns()
    expect(pipeline.hung(0)).toEqual([])
  })

  it('is closing: whatever waits is rejected, and what comes after', async () => {
    const { pipeline, hosts } = chained(2, { microBatch: 1, inFlight: 2 })
    const running = [1, 2].map((run) => pipeline.run({ v0: rowsOf(run, 3) }))
    await turns()
    pipeline.close()
    for (const run of [...running, pipeline.run({ v0: rowsOf(3, 1) })]) await expect(run).rejects.toMatchObject({ message: 'the pipeline is closed' })
    await answerAll(hosts)
    expect(pipeline.inFlight).toBe(0)
  })
})
