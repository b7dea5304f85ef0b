// Small models and records for the registry's tests: each model says by its numbers which one it is.
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { model, node, tensorProto, valueInfo } from '#flyweight/onnx/builder.js'
import { create, DataLocation, encodeModel, StringStringEntryProtoSchema } from '#flyweight/onnx/proto.js'
import type { Profile } from '#flyweight/measurements.js'
import type { Variant } from '#flyweight/registry/model.js'

/** y = x + w, [n, 4], where the four floats of w lie in the file `location`. */
export function externalModel(location: string): Uint8Array<ArrayBuffer> {
  const w = tensorProto('w', 'float32', [4], [0, 0, 0, 0])
  w.rawData = new Uint8Array()
  w.dataLocation = DataLocation.EXTERNAL
  w.externalData = [create(StringStringEntryProtoSchema, { key: 'location', value: location })]
  return encodeModel(
    model({
      inputs: [valueInfo('x', 'float32', ['n', 4])],
      outputs: [valueInfo('y', 'float32', ['n', 4])],
      nodes: [node('Add', ['x', 'w'], ['y'])],
      initializers: [w],
    }),
  )
}

/** y = x · w, of `weights` float32 weights, one in eight of which is not zero. */
export function sparseModel(weights: number): Uint8Array<ArrayBuffer> {
  const columns = weights / 4
  const w = Float32Array.from({ length: weights }, (_, i) => (i % 8 === 3 ? Math.sin(i) : 0))
  return encodeModel(
    model({
      inputs: [valueInfo('x', 'float32', ['n', 4])],
      outputs: [valueInfo('y', 'float32', ['n', columns])],
      nodes: [node('MatMul', ['x', 'w'], ['y'])],
      initializers: [tensorProto('w', 'float32', [4, columns], w)],
    }),
  )
}

/** Writes a file below `folder`, making the folders it needs; returns its path. */
export function put(folder: string, path: string, content: string | Uint8Array): string {
  const file = join(folder, path)
  mkdirSync(dirname(file), { recursive: true })
  writeFileSync(file, content)
  return file
}

export function profileOn(machine: string, p50Ms = 1): Profile {
  return {
    machine,
    device: 'cpu',
    rowDims: { x: [4] },
    latencies: [{ batch: 1, p50Ms, p99Ms: 2 * p50Ms, runs: 20 }],
    residentBytes: 1000,
    loadMs: 3,
    measuredAt: '2026-01-01T00:00:00.000Z',
  }
}

export function variantOf(name: string, overrides: Partial<Variant> = {}): Variant {
  return {
    id: `m:1:${name}`,
    model: 'm',
    version: '1',
    name,
    source: name === 'fp32',
    recipe: name === 'fp32' ? [] : [{ pass: name }],
    digest: `digest of ${name}`,
    file: `/store/${name}/model.onnx`,
    bytes: 100,
    fidelity: { score: 0.99, definition: 'made up', samples: 1, synthetic: false, outputs: {} },
    profile: undefined,
    state: 'ready',
    reason: '',
    sizeOnly: false,
    pinned: false,
    createdAt: '2026-01-01T00:00:00.000Z',
    ...overrides,
  }
}
