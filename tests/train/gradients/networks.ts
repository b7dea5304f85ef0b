// Small networks with every kind of operator, for tests of gradients. Seeds are such that small differences cross no kink.
import type { NodeOptions } from '#flyweight/onnx/builder.js'
import { Emitter } from '#flyweight/onnx/emitter.js'
import type { Tensor } from '#flyweight/tensor/tensor.js'
import { int64s, noise } from '../../onnx/running.js'

type Attributes = NonNullable<NodeOptions['attributes']>

/** Builds a network whose parameters are inputs, each drawn from its own seed. */
export class Network {
  readonly emit: Emitter
  readonly feeds: Record<string, Tensor> = {}
  #seed: number

  constructor(seed: number) {
    this.#seed = seed * 100
    const used = new Map<string, number>()
    this.emit = new Emitter((base) => {
      const count = used.get(base) ?? 0
      used.set(base, count + 1)
      return `${base}_${count}`
    })
  }

  /** An input of random numbers around `centre`. */
  input(name: string, dims: readonly number[], { spread = 1, centre = 0 }: { spread?: number; centre?: number } = {}): string {
    const values = noise(dims, ++this.#seed).data as Float32Array
    this.feeds[name] = { dtype: 'float32', dims, data: values.map((value) => centre + spread * value) }
    return name
  }

  integers(name: string, dims: readonly number[], values: readonly number[]): string {
    this.feeds[name] = int64s(dims, values)
    return name
  }

  op(opType: string, inputs: readonly string[], attributes: Attributes = {}): string {
    return this.emit.op(opType, inputs, { attributes })
  }

  /** Conv whose windows cover the input: odd kernels, padded. */
  conv(x: string, name: string, weights: readonly number[], attributes: Attributes = {}): string {
    const [, fanIn, kernel] = weights as [number, number, number]
    const w = this.input(`${name}_w`, weights, { spread: 1 / Math.sqrt(fanIn * kernel) })
    const pad = (kernel - 1) / 2
    return this.op('Conv', [x, w], { pads: [pad, pad, pad, pad], ...attributes })
  }

  batchNorm(x: string, name: string, channels: number): string {
    const scale = this.input(`${name}_scale`, [channels], { centre: 1, spread: 0.5 })
    const bias = this.input(`${name}_bias`, [channels], { spread: 0.5 })
    // The runtime writes over running statistics: it must not take them for other constants of the same values.
    const statistics = [0.25, 1.5].map((value) => this.emit.tensor('float32', [channels], new Array<number>(channels).fill(value)))
    return this.emit.ops('BatchNormalization', [x, scale, bias, ...statistics], 3, { attributes: { training_mode: 1 } })[0] as string
  }

  layerNorm(x: string, name: string, width: number): string {
    const scale = this.input(`${name}_scale`, [width], { centre: 1, spread: 0.5 })
    return this.op('LayerNormalization', [x, scale, this.input(`${name}_bias`, [width], { spread: 0.5 })], { axis: -1 })
  }

  linear(x: string, name: string, [from, to]: readonly [number, number]): string {
    const product = this.op('MatMul', [x, this.input(`${name}_w`, [from, to], { spread: 1 / Math.sqrt(from) })])
    return this.op('Add', [product, this.input(`${name}_b`, [to], { spread: 0.5 })])
  }

  reshape(x: string, dims: readonly number[]): string {
    return this.op('Reshape', [x, this.emit.ints(dims)])
  }

  crossEntropy(scores: string, classes: readonly number[]): string {
    return this.op('SoftmaxCrossEntropyLoss', [scores, this.integers('labels', [classes.length], classes)])
  }
}

export interface AttentionSizes {
  batch: number
  length: number
  heads: number
  width: number
}

/** Self-attention of several heads: queries, keys and values from one product, split. */
function attention(net: Network, x: string, { batch, length, heads, width }: AttentionSizes, mask?: string): string {
  const size = width / heads
  const all = net.linear(x, 'qkv', [width, 3 * width])
  const parts = net.emit.ops('Split', [all, net.emit.ints([width, width, width])], 3, { attributes: { axis: 2 } })
  const split = parts.map((part) => net.reshape(part, [batch, length, heads, size])) as [string, string, string]
  const [queries, values] = [split[0], split[2]].map((part) => net.op('Transpose', [part], { perm: [0, 2, 1, 3] })) as [string, string]
  const keys = net.op('Transpose', [split[1]], { perm: [0, 2, 3, 1] })
  const scores = net.op('Div', [net.op('MatMul', [queries, keys]), net.emit.scalar(Math.sqrt(size))])
  const weights = net.op('Softmax', [mask === undefined ? scores : net.op('Where', [mask, scores, net.emit.scalar(-1e9)])], { axis: -1 })
  const mixed = net.op('Transpose', [net.op('MatMul', [weights, values])], { perm: [0, 2, 1, 3] })
  return net.linear(net.reshape(mixed, [batch, length, width]), 'attention_out', [width, width])
}

/** Attention and a perceptron, each after a normalisation and added to what it read. */
export function transformerBlock(net: Network, x: string, sizes: AttentionSizes, mask?: string): string {
  const { width } = sizes
  const attended = net.op('Add', [x, attention(net, net.layerNorm(x, 'norm1', width), sizes, mask)])
  const hidden = net.op('Gelu', [net.linear(net.layerNorm(attended, 'norm2', width), 'up', [width, 2 * width])])
  return net.op('Add', [attended, net.linear(hidden, 'down', [2 * width, width])])
}

export function perceptron(): Network {
  const net = new Network(1)
  const hidden = net.op('Relu', [net.linear(net.input('x', [4, 5]), 'first', [5, 6])])
  const deeper = net.op('Tanh', [net.linear(hidden, 'second', [6, 5])])
  net.crossEntropy(net.linear(deeper, 'third', [5, 3]), [2, 0, 1, 1])
  return net
}

export function convolutional(): Network {
  const net = new Network(2)
  const x = net.input('x', [3, 2, 6, 6])
  const first = net.op('Relu', [net.batchNorm(net.conv(x, 'conv1', [3, 2, 3, 3]), 'bn1', 3)])
  const pooled = net.op('MaxPool', [first], { kernel_shape: [2, 2], strides: [2, 2] })
  const second = net.op('Relu', [net.batchNorm(net.conv(pooled, 'conv2', [4, 3, 3, 3]), 'bn2', 4)])
  const features = net.op('Flatten', [net.op('GlobalAveragePool', [second])])
  net.crossEntropy(net.linear(features, 'head', [4, 3]), [1, 2, 0])
  return net
}

export function visionTransformer(): Network {
  const net = new Network(5)
  const [batch, width] = [2, 6]
  const patches = net.op('Conv', [net.input('x', [batch, 2, 4, 6]), net.input('patch_w', [width, 2, 2, 3], { spread: 0.3 })], { strides: [2, 3] })
  const tokens = net.op('Transpose', [net.reshape(patches, [batch, width, 4])], { perm: [0, 2, 1] })
  const summary = net.op('Expand', [net.input('class_token', [1, 1, width]), net.emit.ints([batch, 1, width])])
  const placed = net.op('Add', [net.op('Concat', [summary, tokens], { axis: 1 }), net.input('positions', [1, 5, width])])
  const encoded = net.layerNorm(transformerBlock(net, placed, { batch, length: 5, heads: 2, width }), 'norm', width)
  const first = net.op('Slice', [encoded, net.emit.ints([0]), net.emit.ints([1]), net.emit.ints([1])])
  net.crossEntropy(net.linear(net.op('Squeeze', [first, net.emit.ints([1])]), 'head', [width, 3]), [2, 0])
  return net
}
