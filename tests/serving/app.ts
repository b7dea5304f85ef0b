// A whole gateway on temporary folders for the serving tests: nothing listens, nothing logs, and latencies
// can be set, so that what the policy does never depends on how fast the machine is.
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { vi } from 'vitest'
import { createApp, type App } from '#flyweight/app.js'
import { loadConfig, type ConfigOverrides } from '#flyweight/config.js'
import { graph, model, node, tensorProto, valueInfo } from '#flyweight/onnx/builder.js'
import { encodeModel } from '#flyweight/onnx/proto.js'
import { ArtifactStore } from '#flyweight/registry/artifact-store.js'
import type { InferRequest, InferResult } from '#flyweight/serving/request.js'
import type { Tensor } from '#flyweight/tensor/tensor.js'
import { scaleModel } from '../scale-model.js'

/** Counts to `times`, about a million a second: a run that lasts as long as it is told to. */
export function countingModel(): Uint8Array<ArrayBuffer> {
  const body = graph({
    inputs: [valueInfo('i', 'int64', []), valueInfo('on', 'bool', []), valueInfo('count', 'float32', [1])],
    outputs: [valueInfo('on_out', 'bool', []), valueInfo('count_out', 'float32', [1])],
    nodes: [node('Identity', ['on'], ['on_out']), node('Add', ['count', 'one'], ['count_out'])],
    initializers: [tensorProto('one', 'float32', [1], [1])],
  })
  return encodeModel(
    model({
      inputs: [valueInfo('times', 'int64', [1])],
      outputs: [valueInfo('y', 'float32', [1])],
      nodes: [node('Loop', ['times', '', 'zero'], ['y'], { attributes: { body } })],
      initializers: [tensorProto('zero', 'float32', [1], [0])],
    }),
  )
}

export const times = (count: number): Record<string, Tensor> => ({ times: { dtype: 'int64', dims: [1], data: BigInt64Array.of(BigInt(count)) } })

/** `rows` rows of four, each element `value`. */
export const filled = (value: number, rows = 1): Record<string, Tensor> => ({
  x: { dtype: 'float32', dims: [rows, 4], data: new Float32Array(rows * 4).fill(value) },
})

export const valuesOf = (result: InferResult): number[] => [...(Object.values(result.outputs)[0]!.data as Float32Array)]

export interface Ask extends Partial<InferRequest> {
  inputs: InferRequest['inputs']
}

export interface TestApp extends App {
  folder: string
  infer(model: string, ask: Ask): Promise<InferResult>
  /** Writes a file of the models folder. */
  put(path: string, content: string | Uint8Array): void
  /** Waits until no job is queued or running. */
  settled(): Promise<void>
  /** Makes the gateway believe that a variant takes so long for any batch; p99 is the same. */
  believe(id: string, ms: number): void
  /** Adds a variant of `scale:1` with a model of its own. */
  addVariant(name: string, options: { factor: number; fidelity: number; ms: number; sizeOnly?: boolean }): Promise<void>
  stop(): Promise<void>
}

const rowDims: Record<string, Record<string, number[]>> = { scale: { x: [4] }, digits: { x: [1, 28, 28] } }

/** Starts with `files` (by path below the models folder) and `digits`, and waits until all were tried and measured. */
export async function startApp(files: Record<string, string | Uint8Array>, overrides: ConfigOverrides = {}): Promise<TestApp> {
  const folder = mkdtempSync(join(tmpdir(), 'flyweight-serving-'))
  const put = (path: string, content: string | Uint8Array) => {
    mkdirSync(dirname(join(folder, 'models', path)), { recursive: true })
    writeFileSync(join(folder, 'models', path), content)
  }
  cpSync('models/digits/1', join(folder, 'models', 'digits', '1'), { recursive: true })
  // No builds unless a test wants them.
  put('digits/model.yaml', 'policy: { onDemand: [] }\n')
  for (const [path, content] of Object.entries(files)) put(path, content)
  const app = await createApp(
    loadConfig({
      flags: {
        ...overrides,
        models: { directory: join(folder, 'models'), watch: false, ...overrides.models },
        data: { directory: join(folder, 'data') },
        serving: { lanes: 1, ...overrides.serving },
        jobs: { profileBatches: [1], profileBudgetMs: 100, ...overrides.jobs },
        log: { level: 'silent' },
      },
    }),
  )
  const settled = () =>
    vi.waitFor(
      () => {
        const busy = app.jobs.list({}).filter(({ state }) => state === 'queued' || state === 'running')
        if (busy.length > 0) throw new Error(`${busy.length} jobs are not done`)
      },
      { timeout: 50_000, interval: 50 },
    )
  await app.ready
  await settled()
  let asked = 0
  const believe = (id: string, ms: number) => {
    const point = (batch: number) => ({ batch, p50Ms: ms, p99Ms: ms, runs: 100 })
    app.catalog.saveProfile(id, {
      machine: app.catalog.machine,
      device: 'cpu',
      rowDims: rowDims[id.split(':')[0]!]!,
      latencies: [point(1), point(1024)],
      residentBytes: 1 << 20,
      loadMs: 1,
      measuredAt: new Date().toISOString(),
    })
  }
  return {
    ...app,
    folder,
    put,
    settled,
    believe,
    infer: (name, ask) =>
      app.gateway.infer({ id: String(asked++), model: name, sla: {}, signal: new AbortController().signal, arrivedAt: performance.now(), ...ask }),
    addVariant: async (name, { factor, fidelity, ms, sizeOnly = false }) => {
      const file = join(folder, `${name}.onnx`)
      writeFileSync(file, scaleModel(factor))
      const artifact = await new ArtifactStore(join(folder, 'data')).putFile(file)
      const id = `scale:1:${name}`
      const score = { score: fidelity, definition: 'made up', samples: 1, synthetic: false, outputs: {} }
      const state = { state: 'ready', reason: '', pinned: false, sizeOnly, createdAt: new Date().toISOString() } as const
      app.catalog.saveVariant({
        id,
        model: 'scale',
        version: '1',
        name,
        source: false,
        recipe: [{ pass: name }],
        ...artifact,
        fidelity: score,
        profile: undefined,
        ...state,
      })
      believe(id, ms)
    },
    stop: async () => {
      await app.close({ graceMs: 0 })
      rmSync(folder, { recursive: true, force: true })
    },
  }
}
