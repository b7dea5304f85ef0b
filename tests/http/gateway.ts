// A real gateway on a folder of small models made here, for the route tests. Models are measured
// briefly at one batch size, so that starting costs a second or two.
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createApp, type App } from '#flyweight/app.js'
import { loadConfig, type ConfigOverrides } from '#flyweight/config.js'
import { model, node, valueInfo } from '#flyweight/onnx/builder.js'
import { encodeModel, type ValueInfoProto } from '#flyweight/onnx/proto.js'
import type { DType } from '#flyweight/tensor/tensor.js'
import { scaleModel } from '../scale-model.js'

export const carried: readonly DType[] = [
  'float32',
  'float64',
  'float16',
  'uint8',
  'int8',
  'uint16',
  'int16',
  'uint32',
  'int32',
  'uint64',
  'int64',
  'bool',
  'string',
]

function identity(inputs: readonly ValueInfoProto[], outputs: readonly ValueInfoProto[]): Uint8Array<ArrayBuffer> {
  const nodes = inputs.map((input, index) => node('Identity', [input.name], [outputs[index]?.name ?? '']))
  return encodeModel(model({ inputs, outputs, nodes }))
}

const models: Record<string, Uint8Array<ArrayBuffer>> = {
  scale: scaleModel(2),
  /** Every dtype in and out, [n, 2] each, by the dtype's name. */
  types: identity(
    carried.map((dtype) => valueInfo(dtype, dtype, ['n', 2])),
    carried.map((dtype) => valueInfo(`${dtype}_out`, dtype, ['n', 2])),
  ),
  tokens: identity([valueInfo('ids', 'int64', ['n', 'length'])], [valueInfo('same', 'int64', ['n', 'length'])]),
  text: identity([valueInfo('t', 'string', ['n'])], [valueInfo('u', 'string', ['n'])]),
}

export interface TestGateway extends App {
  folder: string
  stop(): Promise<void>
}

/** Starts with the models above and `digits`, waits until all were tried. */
export async function startGateway(overrides: ConfigOverrides = {}): Promise<TestGateway> {
  const folder = mkdtempSync(join(tmpdir(), 'flyweight-http-'))
  for (const [name, bytes] of Object.entries(models)) {
    mkdirSync(join(folder, 'models', name, '1'), { recursive: true })
    writeFileSync(join(folder, 'models', name, '1', 'model.onnx'), bytes)
  }
  cpSync('models/digits', join(folder, 'models', 'digits'), { recursive: true })
  writeFileSync(join(folder, 'models', 'scale', 'model.yaml'), 'labels: labels.txt\n')
  writeFileSync(join(folder, 'models', 'scale', 'labels.txt'), 'north\neast\nsouth\nwest\n')
  const config = loadConfig({
    flags: {
      ...overrides,
      server: { port: 0, ...overrides.server },
      models: { directory: join(folder, 'models'), watch: false },
      data: { directory: join(folder, 'data') },
      serving: { lanes: 1, ...overrides.serving },
      jobs: { profileBatches: [1], profileBudgetMs: 100, ...overrides.jobs },
      log: { level: 'silent' },
    },
  })
  const app = await createApp(config)
  await app.ready
  return {
    ...app,
    folder,
    stop: async () => {
      await app.close({ graceMs: 0 })
      rmSync(folder, { recursive: true, force: true })
    },
  }
}
