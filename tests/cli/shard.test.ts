// `flyweight shard` from end to end: the files it writes compute what the model computes, weights beside a model are
// shared, and what cannot be done is refused.
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { planLines, shardFile } from '#flyweight/cli/shard.js'
import { openTerminal } from '#flyweight/cli/terminal.js'
import { loadModel, saveModel } from '#flyweight/onnx/load.js'
import { openSession } from '#flyweight/runtime/session.js'
import { LocalHost } from '#flyweight/shard/local-host.js'
import { Pipeline } from '#flyweight/shard/pipeline.js'
import type { ShardPlan, StagePlan } from '#flyweight/measurements.js'
import type { Tensor } from '#flyweight/tensor/tensor.js'
import { largestDifference, noise } from '../onnx/running.js'

const source = 'tests/fixtures/digits_cnn.onnx'
let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'flyweight-shard-'))
})
afterEach(() => rmSync(folder, { recursive: true }))

const terminal = () => openTerminal({ json: true, stdout: new Writable({ write: (_chunk, _encoding, done) => done() }) as unknown as NodeJS.WriteStream })

interface Told extends Omit<ShardPlan, 'stages'> {
  stages: (StagePlan & { file: string; inputs: string[]; outputs: string[] })[]
}
const planIn = (out: string) => JSON.parse(readFileSync(join(out, 'plan.json'), 'utf8')) as Told

async function run(file: string, feeds: Record<string, Tensor>) {
  const session = await openSession(file, { optimization: 'disabled' })
  const outputs = await session.run(feeds)
  await session.release()
  return outputs
}

async function runPlan(out: string, feeds: Record<string, Tensor>) {
  const known = { ...feeds }
  for (const { file, inputs } of planIn(out).stages)
    Object.assign(known, await run(join(out, file), Object.fromEntries(inputs.map((name) => [name, known[name]!]))))
  return known
}

describe('shard', () => {
  it('writes stages that compute the same, and a plan that names them', async () => {
    const out = join(folder, 'stages')
    await shardFile(terminal(), source, { out, stages: 3 })
    expect(readdirSync(out).sort()).toEqual(['plan.json', 'plan.svg', 'stage-0.onnx', 'stage-1.onnx', 'stage-2.onnx'])
    const feeds = { x: noise([2, 1, 28, 28]) }
    const { logits } = await runPlan(out, feeds)
    expect(largestDifference({ logits: logits as Tensor }, await run(source, feeds))).toBe(0)
    expect(planIn(out).stages.map(({ inputs }) => inputs.length)).toEqual([1, 1, 1])
  })

  it('cuts by tensors, and shares weights that lie beside the model', async () => {
    const file = join(folder, 'model.onnx')
    await saveModel(await loadModel(source), file, { externalThresholdBytes: 0 })
    const out = join(folder, 'stages')
    await shardFile(terminal(), file, { out, cuts: ['relu_1'] })
    expect(planIn(out).stages.map(({ outputs }) => outputs)).toEqual([['relu_1'], ['logits']])
    expect(statSync(join(out, 'model.onnx.data')).ino).toBe(statSync(`${file}.data`).ino)
    expect(statSync(join(out, 'stage-1.onnx')).size).toBeLessThan(20_000)
    const feeds = { x: noise([1, 1, 28, 28]) }
    const { logits } = await runPlan(out, feeds)
    expect(largestDifference({ logits: logits as Tensor }, await run(file, feeds))).toBe(0)
    // Once more into the same folder: the file there is the model's own.
    await shardFile(terminal(), file, { out, stages: 2 })
  })

  it('cuts layers into parts, which run on threads of their own', async () => {
    const out = join(folder, 'parts')
    const vit = 'tests/fixtures/digits_vit.onnx'
    await shardFile(terminal(), vit, { out, stages: 2, strategy: 'tensor' })
    const { strategy, stages } = planIn(out)
    expect(strategy).toBe('tensor')
    expect(stages.map(({ rank, part, device }) => [rank, part, device]).slice(0, 3)).toEqual([
      [0, 0, 'cpu:0'],
      [0, 1, 'cpu:1'],
      [1, 0, 'cpu:0'],
    ])
    const hosts = ['cpu:0', 'cpu:1'].map((device) => new LocalHost({ device }))
    const placed = stages.map((stage, part) => ({ ...stage, key: `stage-${part}`, host: hosts.find(({ name }) => name === stage.device)! }))
    await Promise.all(placed.map(({ key, host, file }) => host.load(key, join(out, file))))
    const pipeline = new Pipeline({ stages: placed, inputs: ['x'], outputs: ['logits'], batchable: true, microBatch: 2 })
    const [expected, { outputs }] = [await run(vit, { x: noise([5, 1, 28, 28]) }), await pipeline.run({ x: noise([5, 1, 28, 28]) })]
    expect(largestDifference(outputs, expected)).toBeLessThan(1e-5)
    pipeline.close()
    await Promise.all(hosts.map((host) => host.close()))
  })

  it('chooses the better strategy, and cuts into parts where only these fit', async () => {
    const [auto, parts] = [join(folder, 'auto'), join(folder, 'parts')]
    // Messages take longer than the parts of so small a network.
    await shardFile(terminal(), source, { out: auto, stages: 2, strategy: 'auto' })
    expect(planIn(auto).strategy).toBe('pipeline')
    // Its second last layer has 369 of 392 kB of weights.
    await shardFile(terminal(), source, { out: parts, stages: 2, strategy: 'auto', budget: 250_000 })
    expect(planIn(parts).strategy).toBe('tensor')
    const refused = {
      code: 'invalid_plan',
      message: expect.stringMatching(/do not fit 2 parts: cpu:0 would have to hold \d+ bytes of weights, its budget is 150000/),
    }
    await expect(shardFile(terminal(), source, { out: parts, stages: 2, strategy: 'tensor', budget: 150_000 })).rejects.toMatchObject(refused)
  })

  it('loads weights that lie beside a model before it cuts them', async () => {
    const file = join(folder, 'model.onnx')
    await saveModel(await loadModel(source), file, { externalThresholdBytes: 0 })
    const out = join(folder, 'parts')
    await shardFile(terminal(), file, { out, stages: 2, strategy: 'tensor' })
    expect(readdirSync(out).filter((name) => name.endsWith('.data'))).toEqual([])
    const feeds = { x: noise([2, 1, 28, 28]) }
    const { logits } = await runPlan(out, feeds)
    expect(largestDifference({ logits: logits as Tensor }, await run(source, feeds))).toBeLessThan(1e-5)
    expect(statSync(`${file}.data`).size).toBeGreaterThan(0)
  })

  it('refuses what does not go together, or does not fit', async () => {
    const out = join(folder, 'stages')
    await expect(shardFile(terminal(), source, { out })).rejects.toMatchObject({ code: 'invalid_input', message: '--stages is missing, expected it or --cuts' })
    await expect(shardFile(terminal(), source, { out, stages: 3, cuts: ['relu_1'] })).rejects.toMatchObject({ code: 'invalid_input' })
    await expect(shardFile(terminal(), source, { out, cuts: ['relu_9'] })).rejects.toMatchObject({
      code: 'invalid_plan',
      message: expect.stringContaining('"relu"'),
    })
    await expect(shardFile(terminal(), source, { out, stages: 2, budget: 200_000 })).rejects.toMatchObject({
      code: 'invalid_plan',
      message: expect.stringMatching(/would have to hold \d+ bytes of weights, its budget is 200000/),
    })
  })

  it('prints the plan as a table', () => {
    const stage = { rank: 3, part: 0, device: 'cpu:0', nodes: 5, weightBytes: 19200, computeMs: 0.5, transferMs: 0, inBytes: 3136, outBytes: 25088, reads: [] }
    const plan = { stages: [stage], microBatches: 8, latencyMs: 1.25, intervalMs: 0.5, bubbleShare: 0.25, crossingBytes: 25088 }
    expect(planLines({ strategy: 'pipeline', ...plan })).toEqual([
      'stage  device  nodes  weights     ms      in      out',
      '    0  cpu:0       5  19.2 kB  0.500  3.1 kB  25.1 kB',
      '',
      'one micro-batch takes 1.25 ms, and one comes every 0.500 ms; 25.1 kB pass between stages for each',
      'with 8 micro-batches stages wait 25 % of the time',
    ])
    expect(planLines({ strategy: 'tensor', ...plan })[1]).toBe('   3      0  cpu:0       5  19.2 kB  0.500  3.1 kB  25.1 kB')
  })
})
