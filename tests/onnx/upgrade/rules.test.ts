// Each rule: a small graph in the old dialect and its upgrade must give the same outputs, bit for bit.
import { describe, expect, it } from 'vitest'
import type { AttributeValue } from '#flyweight/onnx/attributes.js'
import { model, node, tensorProto, valueInfo } from '#flyweight/onnx/builder.js'
import type { GraphProto, ModelProto, TensorProto } from '#flyweight/onnx/proto.js'
import { upgradeOpset } from '#flyweight/onnx/upgrade/opset.js'
import type { Tensor } from '#flyweight/tensor/tensor.js'
import { floats, int64s, largestDifference, looseModel, noise, run } from '../running.js'

interface Case {
  name: string
  opset: number
  operator: string
  attributes?: Record<string, AttributeValue>
  feeds: Record<string, Tensor>
  /** Inputs of the node; default: the feeds, then the constants. */
  inputs?: string[]
  outputs?: string[]
  constants?: TensorProto[]
  /** How inputs are declared: with their rank, or with no shape at all. */
  shapeless?: boolean
  tolerance?: number
}

function build(test: Case): ModelProto & { graph: GraphProto } {
  const outputs = test.outputs ?? ['y']
  const inputs = test.inputs ?? [...Object.keys(test.feeds), ...(test.constants ?? []).map(({ name }) => name)]
  return looseModel(test, [node(test.operator, inputs, outputs, { attributes: test.attributes ?? {} })], outputs)
}

const x234 = noise([2, 3, 4])
const scales = (values: number[]) => tensorProto('scales', 'float32', [values.length], values)

const reductions = ['L1', 'L2', 'LogSum', 'LogSumExp', 'Max', 'Mean', 'Min', 'Prod', 'Sum', 'SumSquare'].flatMap((kind): Case[] => {
  const positive = { ...x234, data: (x234.data as Float32Array<ArrayBuffer>).map((value) => Math.abs(value) + 0.1) }
  return [
    { name: `Reduce${kind} with axes`, opset: 11, operator: `Reduce${kind}`, attributes: { axes: [0, 2], keepdims: 0 }, feeds: { x: positive } },
    { name: `Reduce${kind} of everything`, opset: 9, operator: `Reduce${kind}`, feeds: { x: positive } },
  ]
})

const softmaxes = ['Softmax', 'LogSoftmax', 'Hardmax'].flatMap((operator) =>
  [undefined, 0, 1, 2, -1, -2].flatMap((axis): Case[] =>
    [false, true].map((shapeless) => ({
      name: `${operator} at axis ${axis ?? 'default'}, rank ${shapeless ? 'unknown' : 'known'}`,
      opset: axis !== undefined && axis < 0 ? 11 : 9,
      operator,
      ...(axis === undefined ? {} : { attributes: { axis } }),
      feeds: { x: x234 },
      shapeless,
    })),
  ),
)

const image = noise([1, 2, 4, 5])
const resizes = [
  [1, 1, 2, 2],
  [1, 1, 2.5, 1.3],
  [1, 1, 0.6, 0.5],
  [1, 1, 0.7, 1.7],
  [1, 1, 3, 0.3],
].flatMap((values): Case[] => [
  { name: `Resize 10 nearest by constant ${values}`, opset: 10, operator: 'Resize', feeds: { x: image }, constants: [scales(values)] },
  { name: `Resize 10 nearest by computed ${values}`, opset: 10, operator: 'Resize', feeds: { x: image, s: floats([4], values) } },
  { name: `Resize 10 linear by ${values}`, opset: 10, operator: 'Resize', attributes: { mode: 'linear' }, feeds: { x: image }, constants: [scales(values)] },
  ...(values.every((scale) => scale >= 1)
    ? ['nearest', 'linear'].flatMap((mode): Case[] => [
        { name: `Upsample 7 ${mode} by ${values}`, opset: 7, operator: 'Upsample', attributes: { mode, scales: { floats: values } }, feeds: { x: image } },
        { name: `Upsample 9 ${mode} by ${values}`, opset: 9, operator: 'Upsample', attributes: { mode }, feeds: { x: image }, constants: [scales(values)] },
      ])
    : []),
])

const empty = (name: string) => tensorProto(name, 'float32', [0], [])
const resizes11 = ['half_pixel', 'pytorch_half_pixel', 'align_corners', 'asymmetric', 'tf_half_pixel_for_nn'].flatMap((mapping) =>
  ['round_prefer_floor', 'round_prefer_ceil', 'floor', 'ceil'].map(
    (nearest): Case => ({
      name: `Resize 11 nearest ${mapping} ${nearest}`,
      opset: 11,
      operator: 'Resize',
      attributes: { coordinate_transformation_mode: mapping, nearest_mode: nearest },
      feeds: { x: image },
      constants: [empty('roi'), scales([1, 1, 1.7, 0.6])],
    }),
  ),
)

const cases: Case[] = [
  { name: 'Squeeze', opset: 11, operator: 'Squeeze', attributes: { axes: [1] }, feeds: { x: noise([2, 1, 3, 1]) } },
  { name: 'Squeeze of every axis of size one', opset: 7, operator: 'Squeeze', feeds: { x: noise([2, 1, 3, 1]) } },
  { name: 'Unsqueeze', opset: 7, operator: 'Unsqueeze', attributes: { axes: [0, 3] }, feeds: { x: x234 } },
  ...reductions,
  { name: 'Slice', opset: 9, operator: 'Slice', attributes: { starts: [1, -3], ends: [9, -1], axes: [1, 2] }, feeds: { x: x234 } },
  { name: 'Slice without axes', opset: 7, operator: 'Slice', attributes: { starts: [1, 0], ends: [2, 2] }, feeds: { x: x234 } },
  { name: 'Split', opset: 11, operator: 'Split', attributes: { axis: 2, split: [1, 3] }, feeds: { x: x234 }, outputs: ['a', 'b'] },
  { name: 'Split into equal parts', opset: 7, operator: 'Split', attributes: { axis: 2 }, feeds: { x: x234 }, outputs: ['a', 'b'] },
  { name: 'Split 13 into equal parts', opset: 13, operator: 'Split', attributes: { axis: 2 }, feeds: { x: x234 }, outputs: ['a', 'b'] },
  { name: 'Pad', opset: 10, operator: 'Pad', attributes: { pads: [0, 1, 0, 0, 0, 2], value: { float: 1.5 } }, feeds: { x: x234 } },
  {
    name: 'Pad of unknown type',
    opset: 10,
    operator: 'Pad',
    attributes: { pads: [0, 1, 0, 0, 0, 2], value: { float: 1.5 } },
    feeds: { x: x234 },
    shapeless: true,
  },
  { name: 'Pad reflecting', opset: 7, operator: 'Pad', attributes: { pads: [0, 1, 0, 0, 0, 2], mode: 'reflect' }, feeds: { x: x234 } },
  { name: 'Clip', opset: 10, operator: 'Clip', attributes: { min: { float: -0.25 }, max: { float: 0.5 } }, feeds: { x: x234 } },
  { name: 'Clip below only', opset: 7, operator: 'Clip', attributes: { min: { float: 0 } }, feeds: { x: x234 } },
  { name: 'Clip without bounds', opset: 7, operator: 'Clip', feeds: { x: x234 } },
  ...softmaxes,
  { name: 'Dropout 7', opset: 7, operator: 'Dropout', attributes: { ratio: { float: 0.3 } }, feeds: { x: x234 } },
  { name: 'Dropout 10', opset: 10, operator: 'Dropout', feeds: { x: x234 } },
  {
    name: 'BatchNormalization 7',
    opset: 7,
    operator: 'BatchNormalization',
    attributes: { spatial: 1, epsilon: { float: 0.001 }, momentum: { float: 0.8 } },
    feeds: { x: image },
    constants: ['scale', 'bias', 'mean', 'var'].map((name, i) => tensorProto(name, 'float32', [2], [0.5 + i, 1.5 - i / 5])),
  },
  ...resizes,
  ...resizes11,
  {
    name: 'Resize 11 cubic',
    opset: 11,
    operator: 'Resize',
    attributes: { mode: 'cubic', cubic_coeff_a: { float: -0.5 }, exclude_outside: 1 },
    feeds: { x: image },
    constants: [empty('roi'), scales([1, 1, 1.7, 0.6])],
  },
  {
    name: 'Resize 11 to sizes',
    opset: 11,
    operator: 'Resize',
    attributes: { mode: 'linear' },
    feeds: { x: image },
    constants: [empty('roi'), empty('scales'), tensorProto('sizes', 'int64', [4], [1, 2, 7, 3])],
  },
  {
    name: 'Scatter',
    opset: 9,
    operator: 'Scatter',
    attributes: { axis: 1 },
    feeds: { x: noise([3, 4]), indices: int64s([1, 2], [3, 0]), updates: floats([1, 2], [7, 8]) },
  },
  {
    name: 'RoiAlign',
    opset: 10,
    operator: 'RoiAlign',
    attributes: { output_height: 2, output_width: 3, sampling_ratio: 2, spatial_scale: { float: 0.7 } },
    feeds: { x: noise([1, 2, 8, 9]), rois: floats([2, 4], [0, 0, 5, 6, 1, 2, 8, 7]), batch: int64s([2], [0, 0]) },
  },
  ...['bilinear', 'nearest', 'bicubic', undefined].map(
    (mode): Case => ({
      name: `GridSample ${mode ?? 'default'}`,
      opset: 16,
      operator: 'GridSample',
      ...(mode === undefined ? {} : { attributes: { mode } }),
      feeds: { x: image, grid: noise([1, 3, 3, 2], 5) },
    }),
  ),
  { name: 'DFT', opset: 17, operator: 'DFT', attributes: { axis: 1 }, feeds: { x: noise([2, 6, 4, 1]) } },
  { name: 'DFT at the default axis', opset: 17, operator: 'DFT', attributes: { onesided: 1 }, feeds: { x: noise([2, 6, 4, 1]) } },
  {
    name: 'GroupNormalization',
    opset: 18,
    operator: 'GroupNormalization',
    attributes: { num_groups: 2, epsilon: { float: 0.01 } },
    feeds: { x: noise([2, 6, 3, 2]) },
    constants: [tensorProto('scale', 'float32', [2], [0.5, 2]), tensorProto('bias', 'float32', [2], [1, -1])],
    tolerance: 1e-5,
  },
  // Compatible changes whose kernels are others in newer versions.
  ...[0, 1].flatMap((include) =>
    [0, 1].map(
      (ceil): Case => ({
        name: `AveragePool count_include_pad ${include} ceil_mode ${ceil}`,
        opset: 11,
        operator: 'AveragePool',
        attributes: { kernel_shape: [3, 3], strides: [2, 2], pads: [1, 1, 1, 1], count_include_pad: include, ceil_mode: ceil },
        feeds: { x: noise([1, 2, 7, 6]) },
        tolerance: 1e-5,
      }),
    ),
  ),
  { name: 'LpPool', opset: 11, operator: 'LpPool', attributes: { kernel_shape: [2, 2], p: 2 }, feeds: { x: image }, tolerance: 1e-5 },
  { name: 'MaxPool', opset: 7, operator: 'MaxPool', attributes: { kernel_shape: [2, 2], strides: [2, 2] }, feeds: { x: image } },
  { name: 'OneHot of a negative index', opset: 9, operator: 'OneHot', feeds: { i: int64s([3], [0, -1, 2]), d: int64s([1], [3]), v: floats([2], [0, 1]) } },
  { name: 'Pow', opset: 7, operator: 'Pow', feeds: { x: floats([3], [1.5, 2, 3]), e: floats([1], [2.5]) } },
]

describe('upgrade rules keep outputs', () => {
  it.each(cases)('$name', async (test) => {
    const old = build(test)
    const upgraded = upgradeOpset(old)
    expect(upgraded.opsetImport).toMatchObject([{ domain: '', version: 21n }])
    const before = await run(old, test.feeds)
    const after = await run(upgraded, test.feeds)
    expect(largestDifference(before, after)).toBeLessThanOrEqual(test.tolerance ?? 0)
  })

  it('TopK', async () => {
    const feeds = { x: noise([3, 5]) }
    const outputs = [valueInfo('v', 'float32', [3, 2]), valueInfo('i', 'int64', [3, 2])]
    const old = model({ opset: 9, inputs: [valueInfo('x', 'float32', [3, 5])], outputs, nodes: [node('TopK', ['x'], ['v', 'i'], { attributes: { k: 2 } })] })
    expect(largestDifference(await run(old, feeds), await run(upgradeOpset(old), feeds))).toBe(0)
  })

  it('bounds of a float16 Clip are float16', async () => {
    const nodes = [
      node('Cast', ['x'], ['h'], { attributes: { to: 10 } }),
      node('Clip', ['h'], ['c'], { attributes: { min: { float: -0.3 }, max: { float: 0.7 } } }),
      node('Cast', ['c'], ['y'], { attributes: { to: 1 } }),
    ]
    const old = looseModel({ feeds: { x: x234 }, opset: 9 }, nodes, ['y'])
    // The runtime has no half-precision Clip of version 6 and runs it in float32, so the old one is not rounded to half.
    expect(largestDifference(await run(old, { x: x234 }), await run(upgradeOpset(old), { x: x234 }))).toBeLessThanOrEqual(2 ** -11)
  })

  it.each([false, true])('recurrent networks keep their layout (reverse: %s)', async (reverse) => {
    for (const [operator, gates] of [
      ['RNN', 1],
      ['GRU', 3],
      ['LSTM', 4],
    ] as const) {
      const weights = [tensorProto('w', 'float32', [1, gates * 4, 3], [...noise([1, gates * 4, 3], 2).data].map(Number))]
      weights.push(tensorProto('r', 'float32', [1, gates * 4, 4], [...noise([1, gates * 4, 4], 3).data].map(Number)))
      const attributes = { hidden_size: 4, direction: reverse ? 'reverse' : 'forward' }
      const old = build({ name: '', opset: 7, operator, attributes, feeds: { x: noise([5, 2, 3]) }, constants: weights })
      expect(largestDifference(await run(old, { x: noise([5, 2, 3]) }), await run(upgradeOpset(old), { x: noise([5, 2, 3]) }))).toBe(0)
    }
  })
})
