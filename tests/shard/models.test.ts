// Every sample and test model, in two, three and four stages, as a pipeline with micro-batches and several runs under way:
// it gives what the whole gives, bit for bit without the runtime's optimizations, and within 1e-5 of the largest value with them, on real lanes,
// on inputs of sizes that were not observed, too.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { loadModel } from '#flyweight/onnx/load.js'
import { encodeModel } from '#flyweight/onnx/proto.js'
import { observeTensors, type ObservedTensor } from '#flyweight/runtime/observe-tensors.js'
import { openSession } from '#flyweight/runtime/session.js'
import { dataflow } from '#flyweight/shard/dataflow.js'
import { saveStages } from '#flyweight/shard/files.js'
import { LocalHost } from '#flyweight/shard/local-host.js'
import { Pipeline, type PipelineStage } from '#flyweight/shard/pipeline.js'
import type { StageHost } from '#flyweight/shard/stage-host.js'
import { copyRows, joinRows } from '#flyweight/tensor/rows.js'
import { largestDifference } from '../onnx/running.js'
import { SessionHost } from './hosts.js'
import { models, path } from './models.js'
import { cutObserved, evenly, runWhole, type Feeds, type Model } from './stages.js'

let folder: string
const lanes: LocalHost[] = []
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'flyweight-stages-'))
  lanes.push(...[0, 1].map((index) => new LocalHost({ device: `cpu:${index}` })))
})
afterAll(async () => {
  await Promise.all(lanes.map((lane) => lane.close()))
  await rm(folder, { recursive: true })
})

/** Without optimizations, on as many rows at a time as the pipelines get. */
async function wholeByRow(model: Model, feedSets: readonly Feeds[]): Promise<Feeds[]> {
  const rows = feedSets.map((feeds) =>
    Array.from({ length: Object.values(feeds)[0]!.dims[0]! }, (_, row) =>
      Object.fromEntries(Object.entries(feeds).map(([name, tensor]) => [name, copyRows(tensor, row, row + 1)])),
    ),
  )
  const results = await runWhole(model, rows.flat())
  return rows.map(({ length }) => joinRows(results.splice(0, length)))
}

describe.each(models)('$file', ({ file, counts = [2, 3, 4], batchable, observed, others }) => {
  const feedSets = [...observed, others]
  let model: Model
  let tensors: Map<string, ObservedTensor>
  let expected: Record<'disabled' | 'all', Feeds[]>
  beforeAll(async () => {
    model = await loadModel(path(file))
    tensors = await observeTensors(model, observed)
    expected = { disabled: await (batchable ? wholeByRow : runWhole)(model, feedSets), all: await runWhole(model, feedSets, 'all') }
  })

  it.each(counts)('in %i stages gives the same', async (count) => {
    const stages = cutObserved(model, evenly(model, count), tensors)
    expect(stages).toHaveLength(count)
    const files = (await saveStages(stages, folder)).map((name) => join(folder, name))
    const outputs = model.graph.output.map(({ name }) => name)
    const inThisThread = new SessionHost()
    for (const [optimization, hosts] of [['disabled', [inThisThread]] as const, ['all', lanes] as const]) {
      const placed = stages.map((stage, index): PipelineStage & { host: StageHost } => ({
        ...stage,
        key: `stage ${index}`,
        host: hosts[index % hosts.length]!,
      }))
      await Promise.all(placed.map(({ key, host }, index) => host.load(key, files[index]!)))
      const pipeline = new Pipeline({ stages: placed, inputs: Object.keys(others), outputs, batchable, microBatch: 1, inFlight: count + 1 })
      const results = await Promise.all(feedSets.map((feeds) => pipeline.run(structuredClone(feeds))))
      for (const [index, result] of results.entries()) {
        const difference = largestDifference(result.outputs, expected[optimization][index] as Feeds)
        if (optimization === 'disabled') expect(difference).toBe(0)
        else expect(difference / largestValue(expected[optimization][index] as Feeds)).toBeLessThan(1e-5)
      }
      expect(pipeline.inFlight).toBe(0)
    }
    await inThisThread.close()
  })

  it('is cut into no more stages than it has nodes to place', () => {
    expect(dataflow(model).nodes.length).toBeGreaterThanOrEqual(Math.max(...counts))
    if (counts.length === 1) expect(dataflow(model).nodes).toHaveLength(2)
  })

  it('has stages that declare what they read, and hold each weight in no more stages than read it', async () => {
    const stages = cutObserved(model, evenly(model, 2), tensors)
    for (const stage of stages) {
      const session = await openSession(encodeModel(stage.model))
      expect(session.inputs.map(({ name }) => name)).toEqual(stage.inputs)
      expect(session.outputs.map(({ name }) => name)).toEqual(stage.outputs)
      await session.release()
    }
    const size = (whole: Model) => encodeModel(whole).length
    expect(stages.reduce((sum, stage) => sum + size(stage.model), 0)).toBeLessThan(size(model) * 1.05 + 2000)
  })
})

/** At least 1. */
function largestValue(tensors: Feeds): number {
  return Object.values(tensors).reduce((largest, { data }) => (data as Float32Array).reduce((max, value) => Math.max(max, Math.abs(value)), largest), 1)
}
