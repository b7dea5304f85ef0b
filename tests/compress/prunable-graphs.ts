// Random networks whose channels depend on each other in the ways that pruning has to respect: residual sums,
// concatenations, depthwise, grouped and transposed convolutions, squeeze and excitation, attention, and heads that
// flatten images. Activations map zero to zero, so that a channel set to zero is one that is not there.
import fc from 'fast-check'
import type { Model } from '#flyweight/compress/passes/pass.js'
import { model, node, tensorProto, valueInfo } from '#flyweight/onnx/builder.js'
import type { AttributeValue } from '#flyweight/onnx/attributes.js'
import type { NodeProto, TensorProto } from '#flyweight/onnx/proto.js'
import { noise } from '../onnx/running.js'

const BLOCKS = ['plain', 'residual', 'concat', 'depthwise', 'grouped', 'transposed', 'sliced', 'split', 'excite', 'attention', 'sequenceFirst'] as const
const HEADS = ['flatten', 'pool'] as const
const ACTIVATIONS = ['Relu', 'LeakyRelu', 'HardSwish', 'Gelu', 'Tanh'] as const

export interface Architecture {
  blocks: readonly { kind: (typeof BLOCKS)[number]; width: number }[]
  head: (typeof HEADS)[number]
  activation: (typeof ACTIVATIONS)[number]
  seed: number
}

export const architectures: fc.Arbitrary<Architecture> = fc.record({
  blocks: fc.array(fc.record({ kind: fc.constantFrom(...BLOCKS), width: fc.constantFrom(8, 12, 16, 24) }), { minLength: 1, maxLength: 4 }),
  head: fc.constantFrom(...HEADS),
  activation: fc.constantFrom(...ACTIVATIONS),
  seed: fc.integer({ min: 1, max: 2 ** 30 }),
})

/** Dims of one row of the input `x`. */
export const ROW = [3, 6, 6] as const
const GROUPS = 4
const ATTENTION_HEADS = 4

/** The network, from `x` [n, 3, 6, 6] to `y` [n, 5]; all its weights are different. */
export function prunableNetwork({ blocks, head, activation, seed }: Architecture): Model {
  const sketch = new Network(seed, activation)
  let x = sketch.convolution('x', 3, 16)
  let channels = 16
  for (const { kind, width } of blocks) [x, channels] = sketch[kind](x, channels, width)
  const features = head === 'flatten' ? channels * 36 : channels
  const flat = head === 'flatten' ? x : sketch.apply('GlobalAveragePool', [x])
  const hidden = sketch.activated(sketch.gemm(sketch.apply('Flatten', [flat], { axis: 1 }), features, 16))
  return model({
    inputs: [valueInfo('x', 'float32', ['n', ...ROW])],
    outputs: [valueInfo('y', 'float32', ['n', 5])],
    nodes: [...sketch.nodes, node('Gemm', [hidden, sketch.weights([16, 5], 16), sketch.weights([5], 4)], ['y'])],
    initializers: sketch.initializers,
  })
}

type Block = [output: string, channels: number]

class Network {
  readonly nodes: NodeProto[] = []
  readonly initializers: TensorProto[] = []
  readonly #activation: string
  #seed: number

  constructor(seed: number, activation: string) {
    this.#seed = seed
    this.#activation = activation
  }

  apply(opType: string, inputs: string[], attributes: Record<string, AttributeValue> = {}): string {
    const name = `${opType}.${this.nodes.length}`
    this.nodes.push(node(opType, inputs, [name], { attributes }))
    return name
  }

  weights(dims: readonly number[], fanIn: number, mean = 0): string {
    const name = `w.${this.initializers.length}`
    const data = (noise(dims, (this.#seed = (this.#seed * 31 + 7) % 2 ** 31)).data as Float32Array<ArrayBuffer>).map(
      (value) => mean + (value * 1.7) / Math.sqrt(fanIn),
    )
    this.initializers.push(tensorProto(name, 'float32', dims, data))
    return name
  }

  #sizes(values: readonly number[]): string {
    const name = `i.${this.initializers.length}`
    this.initializers.push(tensorProto(name, 'int64', [values.length], values))
    return name
  }

  activated(x: string): string {
    return this.apply(this.#activation, [x])
  }

  convolution(x: string, from: number, to: number, { group = 1, kernel = 3 } = {}): string {
    const pad = (kernel - 1) / 2
    const inputs = [x, this.weights([to, from / group, kernel, kernel], (from / group) * kernel ** 2), this.weights([to], 4)]
    return this.apply('Conv', inputs, { kernel_shape: [kernel, kernel], pads: [pad, pad, pad, pad], group })
  }

  gemm(x: string, from: number, to: number): string {
    return this.apply('Gemm', [x, this.weights([to, from], from), this.weights([to], 4)], { transB: 1 })
  }

  #normalized(x: string, channels: number): string {
    return this.apply('BatchNormalization', [x, ...[1, 0, 0, 1].map((mean) => this.weights([channels], 16, mean))])
  }

  plain(x: string, from: number, to: number): Block {
    return [this.activated(this.#normalized(this.convolution(x, from, to), to)), to]
  }

  residual(x: string, channels: number, width: number): Block {
    const inner = this.activated(this.#normalized(this.convolution(x, channels, width), width))
    return [this.activated(this.apply('Add', [this.#normalized(this.convolution(inner, width, channels), channels), x])), channels]
  }

  concat(x: string, from: number, width: number): Block {
    const parts = [this.activated(this.convolution(x, from, width)), this.convolution(x, from, width, { kernel: 1 }), x]
    return [this.activated(this.apply('Concat', parts, { axis: 1 })), 2 * width + from]
  }

  depthwise(x: string, from: number, width: number): Block {
    const wide = this.activated(this.convolution(x, from, width, { kernel: 1 }))
    const each = this.activated(this.#normalized(this.convolution(wide, width, width, { group: width }), width))
    return [this.convolution(each, width, width, { kernel: 1 }), width]
  }

  grouped(x: string, from: number, width: number): Block {
    const wide = this.activated(this.convolution(x, from, 2 * width, { kernel: 1 }))
    const each = this.activated(this.convolution(wide, 2 * width, width, { group: GROUPS }))
    return [this.convolution(each, width, width, { kernel: 1 }), width]
  }

  transposed(x: string, from: number, to: number): Block {
    const inputs = [x, this.weights([from, to, 3, 3], from * 9), this.weights([to], 4)]
    return [this.activated(this.apply('ConvTranspose', inputs, { kernel_shape: [3, 3], pads: [1, 1, 1, 1] })), to]
  }

  sliced(x: string, from: number, width: number): Block {
    const wide = this.activated(this.convolution(x, from, 2 * width))
    return [this.apply('Slice', [wide, ...[[width / 2], [-width / 2], [1]].map((values) => this.#sizes(values))]), width]
  }

  split(x: string, from: number, width: number): Block {
    const [a, b] = [`a.${this.nodes.length}`, `b.${this.nodes.length}`]
    this.nodes.push(node('Split', [this.convolution(x, from, width + 4)], [a, b], { attributes: { axis: 1, num_outputs: 2 } }))
    return [this.apply('Mul', [a, this.apply('Sigmoid', [b])]), width / 2 + 2]
  }

  excite(x: string, channels: number, width: number): Block {
    const inner = this.activated(this.convolution(this.apply('GlobalAveragePool', [x]), channels, width, { kernel: 1 }))
    const gate = this.apply('Sigmoid', [this.convolution(inner, width, channels, { kernel: 1 })])
    return [this.apply('Mul', [this.activated(this.convolution(x, channels, channels)), gate]), channels]
  }

  #linear(x: string, from: number, to: number): string {
    return this.apply('Add', [this.apply('MatMul', [x, this.weights([from, to], from)]), this.weights([to], 4)])
  }

  /** Image to sequence, self-attention of several heads, and back. */
  attention(x: string, channels: number, width: number): Block {
    const depth = width / ATTENTION_HEADS
    const sequence = this.apply('Transpose', [this.apply('Reshape', [x, this.#sizes([0, channels, 36])])], { perm: [0, 2, 1] })
    const split = (perm: number[]) => {
      const cut = this.apply('Reshape', [this.#linear(sequence, channels, width), this.#sizes([0, 36, ATTENTION_HEADS, depth])])
      return this.apply('Transpose', [cut], { perm })
    }
    const query = split([0, 2, 1, 3])
    const mixed = this.#attended(query, split([0, 2, 3, 1]), split([0, 2, 1, 3]))
    const merged = this.apply('Reshape', [this.apply('Transpose', [mixed], { perm: [0, 2, 1, 3] }), this.#sizes([0, -1, width])])
    const sum = this.apply('Add', [this.#linear(merged, width, channels), sequence])
    return [this.apply('Reshape', [this.apply('Transpose', [sum], { perm: [0, 2, 1] }), this.#sizes([0, 0, 6, 6])]), channels]
  }

  /** The same on [length, batch, channels], heads and batch in one axis, as older layers of PyTorch have it. */
  sequenceFirst(x: string, channels: number, width: number): Block {
    const depth = width / ATTENTION_HEADS
    const sequence = this.apply('Transpose', [this.apply('Reshape', [x, this.#sizes([0, channels, 36])])], { perm: [2, 0, 1] })
    const split = (perm: number[]) =>
      this.apply('Transpose', [this.apply('Reshape', [this.#linear(sequence, channels, width), this.#sizes([36, -1, depth])])], { perm })
    const query = split([1, 0, 2])
    const mixed = this.#attended(query, split([1, 2, 0]), split([1, 0, 2]))
    const merged = this.apply('Reshape', [this.apply('Transpose', [mixed], { perm: [1, 0, 2] }), this.#sizes([36, -1, width])])
    const sum = this.apply('Add', [this.#linear(merged, width, channels), sequence])
    return [this.apply('Reshape', [this.apply('Transpose', [sum], { perm: [1, 2, 0] }), this.#sizes([0, 0, 6, 6])]), channels]
  }

  /** Scaled by the root of a depth that is read off the query, so that it must not change. */
  #attended(query: string, key: string, value: string): string {
    const depth = this.apply('Cast', [this.apply('Gather', [this.apply('Shape', [query]), this.#sizes([-1])])], { to: 1 })
    const scores = this.apply('Div', [this.apply('MatMul', [query, key]), this.apply('Sqrt', [depth])])
    return this.apply('MatMul', [this.apply('Softmax', [scores], { axis: -1 }), value])
  }
}
