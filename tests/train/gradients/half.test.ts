// Gradients are emitted in the type of what they are of: in half precision, as under autocast, they are those of single
// precision but for rounding. One node an operator.
import { describe, expect, it } from 'vitest'
import { node, tensorProto, type NodeOptions } from '#flyweight/onnx/builder.js'
import { float16From, float32FromFloat16 } from '#flyweight/tensor/float16.js'
import type { Tensor } from '#flyweight/tensor/tensor.js'
import { gradientsOf } from '../gradients-of.js'

const ints = (name: string, values: readonly number[]) => tensorProto(name, 'int64', [values.length], values)

interface Case {
  inputs?: string[]
  attributes?: NonNullable<NodeOptions['attributes']>
}

const cases: Record<string, Case> = {
  Abs: {},
  Add: { inputs: ['x', 'row'] },
  AveragePool: { inputs: ['image'], attributes: { kernel_shape: [2, 2], pads: [0, 0, 1, 1] } },
  Clip: { inputs: ['x', 'low', 'high'] },
  Concat: { inputs: ['x', 'z'], attributes: { axis: 1 } },
  Conv: { inputs: ['image', 'kernel', 'one'], attributes: { pads: [1, 0, 0, 1] } },
  ConvTranspose: { inputs: ['image', 'kernel', 'one'], attributes: { strides: [2, 1] } },
  Cos: {},
  Div: { inputs: ['x', 'row'] },
  Dropout: {},
  Elu: {},
  Erf: {},
  Exp: {},
  Expand: { inputs: ['x', 'wide'] },
  Flatten: { inputs: ['image'] },
  Gather: { inputs: ['x', 'indices'] },
  GatherElements: { inputs: ['x', 'elements'] },
  Gelu: { attributes: { approximate: 'tanh' } },
  Gemm: { inputs: ['x', 'z', 'one'], attributes: { transB: 1, alpha: { float: 0.5 }, beta: { float: 2 } } },
  GlobalAveragePool: { inputs: ['image'] },
  GlobalMaxPool: { inputs: ['image'] },
  HardSigmoid: {},
  HardSwish: {},
  Identity: {},
  LeakyRelu: {},
  Log: {},
  MatMul: { inputs: ['image', 'column'] },
  Max: { inputs: ['x', 'z'] },
  MaxPool: { inputs: ['image'], attributes: { kernel_shape: [1, 2] } },
  Min: { inputs: ['x', 'z'] },
  Mul: { inputs: ['x', 'row'] },
  Neg: {},
  PRelu: { inputs: ['x', 'z'] },
  Pad: { inputs: ['x', 'pads'] },
  Pow: { inputs: ['x', 'z'] },
  Reciprocal: {},
  ReduceL1: { inputs: ['x', 'axes'] },
  ReduceL2: { inputs: ['x', 'axes'] },
  ReduceLogSumExp: { inputs: ['x', 'axes'] },
  ReduceMax: { inputs: ['x', 'axes'] },
  ReduceMean: { inputs: ['x', 'axes'] },
  ReduceMin: { inputs: ['x', 'axes'] },
  ReduceSum: { inputs: ['x', 'axes'] },
  ReduceSumSquare: { inputs: ['x', 'axes'] },
  Relu: {},
  Reshape: { inputs: ['x', 'flat'] },
  Resize: { inputs: ['image', '', '', 'larger'], attributes: { mode: 'linear' } },
  Sigmoid: {},
  Sin: {},
  Slice: { inputs: ['x', 'starts', 'ends', 'axes', 'steps'] },
  Softplus: {},
  Split: { attributes: { num_outputs: 1 } },
  Sqrt: {},
  Squeeze: { inputs: ['image', 'axes'] },
  Sub: { inputs: ['x', 'row'] },
  Sum: { inputs: ['x', 'z', 'row'] },
  Tanh: {},
  Tile: { inputs: ['x', 'repeats'] },
  Transpose: {},
  Unsqueeze: { inputs: ['x', 'axes'] },
  Where: { inputs: ['condition', 'x', 'z'] },
}

const constants = [
  ints('wide', [2, 2, 3]),
  ints('indices', [1, 0, 1]),
  tensorProto('elements', 'int64', [2, 3], [1, 0, 1, 1, 1, 0]),
  ints('pads', [1, 0, 0, 2]),
  ints('axes', [1]),
  ints('starts', [-1]),
  ints('ends', [-9]),
  ints('steps', [-2]),
  ints('repeats', [2, 1]),
  ints('flat', [-1]),
  ints('larger', [1, 1, 3, 4]),
  tensorProto('condition', 'bool', [3], [1, 0, 1]),
]
const values: Record<string, number[]> = {
  x: [0.25, 1.5, 0.75, 2, 0.5, 1.25],
  z: [0.5, 1, 2, 1.75, 0.375, 1.5],
  row: [0.5, 1.25, 2],
  column: [0.5, 1.5, 0.75, 0.25, 1, 1.25],
  one: [0.25],
  image: [0.25, 1.5, 0.75, 2, 0.5, 1.25],
  kernel: [0.5, 1.25, 0.25, 0.75],
  low: [0.5],
  high: [1.5],
}
const dims: Record<string, number[]> = {
  x: [2, 3],
  z: [2, 3],
  row: [3],
  column: [3, 2],
  one: [1],
  image: [1, 1, 2, 3],
  kernel: [1, 1, 2, 2],
  low: [],
  high: [],
}

describe.each(Object.entries(cases))('%s', (opType, { inputs = ['x'], attributes = {} }) => {
  it('has the same gradient in half precision', async () => {
    const feedsOf = (make: (numbers: number[]) => Pick<Tensor, 'dtype' | 'data'>): Record<string, Tensor> =>
      Object.fromEntries(
        Object.entries(values)
          .filter(([name]) => inputs.includes(name))
          .map(([name, numbers]) => [name, { dims: dims[name] as number[], ...make(numbers) }]),
      )
    const nodes = [node(opType, inputs, ['y'], { attributes })]
    const single = await gradientsOf(
      nodes,
      feedsOf((numbers) => ({ dtype: 'float32', data: Float32Array.from(numbers) })),
      constants,
    )
    const half = await gradientsOf(
      nodes,
      feedsOf((numbers) => ({ dtype: 'float16', data: float16From(Float32Array.from(numbers)) })),
      constants,
    )
    expect(Object.keys(half)).toEqual(Object.keys(single))
    expect(
      Object.values(single)
        .flat()
        .some((value) => value !== 0),
    ).toBe(true)
    for (const [name, expected] of Object.entries(single)) {
      const got = float32FromFloat16(Uint16Array.from(half[name] as number[]))
      expected.forEach((value, index) =>
        expect(Math.abs((got[index] as number) - value), `element ${index} of ${name}`).toBeLessThan(5e-3 * Math.max(1, Math.abs(value))),
      )
    }
  })
})
