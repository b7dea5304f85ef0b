// From model files to stages on threads of their own: parts of transformers give what the whole gives, in micro-batches
// too, and as few devices are taken as hold the model.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { saveModel } from '#flyweight/onnx/load.js'
import { LocalHost } from '#flyweight/shard/local-host.js'
import { Pipeline } from '#flyweight/shard/pipeline.js'
import { shardModel, type Sharded } from '#flyweight/shard/shard.js'
import { buildTransformer } from '../../bench/models/transformer.mjs'
import { int64s, largestDifference, noise } from '../onnx/running.js'
import { runWhole, type Feeds, type Model } from './stages.js'
import { network } from './tensor/networks.js'
import { storedBytes } from './tensor/parts.js'

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'flyweight-shard-'))
})
afterEach(() => rmSync(folder, { recursive: true }))

const devices = (count: number, budgetBytes = Infinity) => Array.from({ length: count }, (_, index) => ({ name: `cpu:${index}`, budgetBytes }))
const tokens = (rows: number, length: number): Feeds => ({
  input_ids: int64s(
    [rows, length],
    Array.from({ length: rows * length }, (_, index) => (index * 7) % 50),
  ),
  attention_mask: int64s(
    [rows, length],
    Array.from({ length: rows * length }, (_, index) => (index % length < length - 1 ? 1 : 0)),
  ),
})

async function runOn(threads: number, { stages }: Sharded, { inputs, outputs }: { inputs: string[]; outputs: string[] }, feeds: Feeds): Promise<Feeds> {
  const hosts = devices(threads).map(({ name }) => new LocalHost({ device: name }))
  const placed = stages.map((stage, index) => ({ ...stage, key: `stage-${index}`, host: hosts.find(({ name }) => name === stage.device)! }))
  await Promise.all(placed.map(({ key, host, file }) => host.load(key, join(folder, 'stages', file))))
  const pipeline = new Pipeline({ stages: placed, inputs, outputs, batchable: true, microBatch: 2 })
  const run = await pipeline.run(structuredClone(feeds))
  pipeline.close()
  await Promise.all(hosts.map((host) => host.close()))
  return run.outputs
}

describe('shardModel', () => {
  const wide = { kind: 'feed-forward', inner: 48, layer: 'Gemm', activation: 'gated', bias: true, norm: 'before', residual: true } as const
  const cases: { name: string; model: Model; feedSets: Feeds[]; feeds: Feeds }[] = [
    {
      name: 'a transformer of text',
      model: buildTransformer({ layers: 2, hidden: 24, heads: 6, ff: 40, vocab: 50, positions: 16 }),
      feedSets: [tokens(1, 5), tokens(2, 5)],
      feeds: tokens(5, 9),
    },
    {
      name: 'gated feed-forward blocks',
      model: network(12, [wide, { ...wide, layer: 'MatMul' }]),
      feedSets: [{ x: noise([1, 3, 12]) }, { x: noise([2, 3, 12]) }],
      feeds: { x: noise([5, 3, 12]) },
    },
  ]

  it.each(cases)('cuts $name into parts that run on threads', async ({ model, feedSets, feeds }) => {
    await saveModel(model, join(folder, 'model.onnx'))
    const threads = 3
    const found = await shardModel(join(folder, 'model.onnx'), {
      ...{ folder: join(folder, 'stages'), feedSets, devices: devices(threads), strategy: 'tensor', microBatches: 2 },
    })
    expect(Math.max(...found.stages.map(({ part }) => part))).toBe(threads - 1)
    const io = { inputs: Object.keys(feeds), outputs: model.graph.output.map(({ name }) => name) }
    const [expected] = await runWhole(model, [feeds])
    expect(largestDifference(await runOn(threads, found, io, feeds), expected!)).toBeLessThan(1e-5)
  })

  it('takes as few devices as hold the model', async () => {
    const { model, feedSets } = cases[1]!
    await saveModel(model, join(folder, 'model.onnx'))
    const options = { folder: join(folder, 'stages'), feedSets, strategy: 'tensor', fewest: true, microBatches: 2 } as const
    const used = async (share: number) => {
      const found = await shardModel(join(folder, 'model.onnx'), { ...options, devices: devices(4, storedBytes(model) * share) })
      return new Set(found.stages.map(({ device }) => device)).size
    }
    expect([await used(0.6), await used(0.4), await used(0.32)]).toEqual([2, 3, 4])
    await expect(used(0.1)).rejects.toMatchObject({ code: 'invalid_plan', message: expect.stringContaining('do not fit 4 parts') })
  })
})
