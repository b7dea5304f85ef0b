// A model in two stages, entered in a gateway's catalog as a sharded variant without the job that makes one: its
// stages are written by hand, so that nothing has to be measured.
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { model, node, tensorProto, valueInfo } from '#flyweight/onnx/builder.js'
import { encodeModel } from '#flyweight/onnx/proto.js'
import { ArtifactStore } from '#flyweight/registry/artifact-store.js'
import type { TestApp } from '../serving/app.js'

const rows = (name: string) => valueInfo(name, 'float32', ['n', 4])
const threes = tensorProto('three', 'float32', [4], [3, 3, 3, 3])
const ones = tensorProto('one', 'float32', [4], [1, 1, 1, 1])
const times = node('Mul', ['x', 'three'], ['h'])
const plus = node('Add', ['h', 'one'], ['y'])

/** y = 3 x + 1, [n, 4]. */
export const affine = encodeModel(model({ inputs: [rows('x')], outputs: [rows('y')], nodes: [times, plus], initializers: [threes, ones] }))
const stages = [
  encodeModel(model({ inputs: [rows('x')], outputs: [rows('h')], nodes: [times], initializers: [threes] })),
  encodeModel(model({ inputs: [rows('h')], outputs: [rows('y')], nodes: [plus], initializers: [ones] })),
]

/** Adds `sharded-2` to `affine:1`, each stage planned for one of the devices. */
export async function addSharded(app: TestApp, devices: readonly string[]): Promise<void> {
  const store = new ArtifactStore(join(app.folder, 'data'))
  const folder = await store.makeTemporaryDirectory()
  for (const [index, bytes] of stages.entries()) writeFileSync(join(folder, `stage-${index}.onnx`), bytes)
  const artifact = await store.putDirectory(folder)
  const source = app.catalog.variants('affine', '1')[0]!
  const stagePlan = { part: 0, nodes: 1, weightBytes: 16, computeMs: 0.1, transferMs: 0.1, inBytes: 16, outBytes: 16 }
  app.catalog.saveVariant({
    ...source,
    ...artifact,
    id: 'affine:1:sharded-2',
    name: 'sharded-2',
    source: false,
    shards: {
      parent: source.id,
      stages: [
        { file: 'stage-0.onnx', inputs: ['x'], outputs: ['h'] },
        { file: 'stage-1.onnx', inputs: ['h'], outputs: ['y'] },
      ],
      inputs: ['x'],
      outputs: ['y'],
      batchable: true,
      microBatch: 4,
      plan: {
        strategy: 'pipeline',
        stages: devices.map((device, rank) => ({ ...stagePlan, rank, device, reads: [] })),
        microBatches: 8,
        latencyMs: 0.4,
        intervalMs: 0.2,
        bubbleShare: 0.1,
        crossingBytes: 16,
      },
    },
  })
}
