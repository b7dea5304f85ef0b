// Networks to compute in parts: feed-forward and attention blocks as exporters write them, with weights of one seed.
import fc from 'fast-check'
import { model, node, tensorProto, valueInfo, type NodeOptions } from '#flyweight/onnx/builder.js'
import type { NodeProto, TensorProto } from '#flyweight/onnx/proto.js'
import { mulberry32 } from '#flyweight/runtime/sample-inputs.js'
import type { Model } from '../stages.js'

export interface FeedForward {
  kind: 'feed-forward'
  inner: number
  layer: 'MatMul' | 'Gemm' | 'transposed Gemm'
  activation: 'Relu' | 'Gelu' | 'gated' | 'none'
  bias: boolean
}

export interface Attention {
  kind: 'attention'
  heads: number
  depth: number
  projection: 'three' | 'Split' | 'Gather' | 'merged batch'
  bias: boolean
}

export type BlockShape = (FeedForward | Attention) & { norm: 'before' | 'after' | 'none'; residual: boolean }

const feedForwards: fc.Arbitrary<FeedForward> = fc.record({
  kind: fc.constant('feed-forward'),
  inner: fc.integer({ min: 4, max: 40 }),
  layer: fc.constantFrom('MatMul', 'Gemm', 'transposed Gemm'),
  activation: fc.constantFrom('Relu', 'Gelu', 'gated', 'none'),
  bias: fc.boolean(),
})

const attentions: fc.Arbitrary<Attention> = fc.record({
  kind: fc.constant('attention'),
  heads: fc.integer({ min: 4, max: 6 }),
  depth: fc.integer({ min: 1, max: 4 }),
  projection: fc.constantFrom('three', 'Split', 'Gather', 'merged batch'),
  bias: fc.boolean(),
})

export const blockShapes: fc.Arbitrary<BlockShape> = fc
  .tuple(fc.oneof(feedForwards, attentions), fc.record({ norm: fc.constantFrom('before', 'after', 'none'), residual: fc.boolean() }))
  .map(([block, around]) => ({ ...block, ...around }))

/** float32 [n, length, hidden] to the same; Gemm sees rows of all positions. */
export function network(hidden: number, shapes: readonly BlockShape[], { length = 3 } = {}): Model {
  const random = mulberry32(7)
  const nodes: NodeProto[] = []
  const initializers: TensorProto[] = []
  const store = (dims: readonly number[]) => {
    const count = dims.reduce((product, size) => product * size, 1)
    const name = `w${initializers.length}`
    const scale = 2 / Math.sqrt(dims[0] ?? 1)
    const values = Array.from({ length: count }, () => (random() - 0.5) * scale)
    initializers.push(tensorProto(name, 'float32', dims, values))
    return name
  }
  const ints = (values: readonly number[]) => {
    const name = `i${initializers.length}`
    initializers.push(tensorProto(name, 'int64', [values.length], values))
    return name
  }
  const op = (opType: string, inputs: readonly string[], attributes: NodeOptions['attributes'] = {}) => {
    const name = `${opType}-${nodes.length}`
    nodes.push(node(opType, inputs, [name], { attributes }))
    return name
  }
  const linear = (x: string, [from, to]: [number, number], bias: boolean, layer: FeedForward['layer'] = 'MatMul') => {
    if (layer === 'MatMul') {
      const product = op('MatMul', [x, store([from, to])])
      return bias ? op('Add', [store([to]), product]) : product
    }
    const transB = layer === 'transposed Gemm' ? 1 : 0
    return op('Gemm', [x, store(transB ? [to, from] : [from, to]), ...(bias ? [store([to])] : [])], { transB })
  }
  const feedForward = (x: string, { inner, layer, activation, bias }: FeedForward) => {
    const flat = layer === 'MatMul' ? x : op('Reshape', [x, ints([-1, hidden])])
    const first = linear(flat, [hidden, inner], bias, layer)
    const active =
      activation === 'gated'
        ? op('Mul', [op('Sigmoid', [first]), linear(flat, [hidden, inner], bias, layer)])
        : activation === 'none'
          ? first
          : op(activation, [first])
    const second = linear(active, [inner, hidden], bias, layer)
    return layer === 'MatMul' ? second : op('Reshape', [second, ints([-1, length, hidden])])
  }
  const attention = (x: string, { heads, depth, projection, bias }: Attention) => {
    const width = heads * depth
    const toHeads = (each: string) => op('Transpose', [op('Reshape', [each, ints([0, 0, heads, depth])])], { perm: [0, 2, 1, 3] })
    const projections = (): string[] => {
      if (projection === 'three' || projection === 'merged batch') return [0, 1, 2].map(() => toHeads(linear(x, [hidden, width], bias)))
      const all = linear(x, [hidden, 3 * width], bias)
      if (projection === 'Split') {
        const names = [0, 1, 2].map((index) => `piece-${nodes.length}-${index}`)
        nodes.push(node('Split', [all, ints([width, width, width])], names, { attributes: { axis: -1 } }))
        return names.map(toHeads)
      }
      const five = op('Transpose', [op('Reshape', [all, ints([-1, length, 3, heads, depth])])], { perm: [2, 0, 3, 1, 4] })
      return [0, 1, 2].map((index) => op('Squeeze', [op('Gather', [five, ints([index])], { axis: 0 }), ints([0])]))
    }
    const [query, key, value] = projections() as [string, string, string]
    const turned = op('Transpose', [key], { perm: [0, 1, 3, 2] })
    // As some exporters write it: shapes computed, and heads in one axis with the batch.
    const merged = projection === 'merged batch' ? op('Reshape', [op('Reshape', [turned, ints([-1, depth, length])]), op('Shape', [turned])]) : turned
    const scores = op('Softmax', [op('Mul', [op('MatMul', [query, merged]), store([1])])], { axis: -1 })
    const context = op('Transpose', [op('MatMul', [scores, value])], { perm: [0, 2, 1, 3] })
    return linear(op('Reshape', [context, ints([0, 0, width])]), [width, hidden], bias)
  }
  const normalized = (x: string) => op('LayerNormalization', [x, store([hidden]), store([hidden])], { axis: -1 })
  let x = 'x'
  for (const shape of shapes) {
    const read = shape.norm === 'before' ? normalized(x) : x
    const written = shape.kind === 'attention' ? attention(read, shape) : feedForward(read, shape)
    const around = shape.residual ? op('Add', [x, written]) : written
    x = shape.norm === 'after' ? normalized(around) : around
  }
  nodes.push(node('Identity', [x], ['y']))
  const info = (name: string) => valueInfo(name, 'float32', ['n', length, hidden])
  return model({ inputs: [info('x')], outputs: [info('y')], nodes, initializers })
}
