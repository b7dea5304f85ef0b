// Networks built from a few numbers, with weights drawn by seed: students for distillation, and models to train from
// nothing. Weights are drawn as He et al., "Delving Deep into Rectifiers" (2015, https://arxiv.org/abs/1502.01852), do.
import { Type, type Static } from 'typebox'
import { model as makeModel, node, tensorProto, valueInfo } from '../onnx/builder.js'
import type { NodeProto, TensorProto } from '../onnx/proto.js'
import { mulberry32 } from '../runtime/sample-inputs.js'
import { elementCount } from '../tensor/tensor.js'
import type { Model } from './training-form.js'

const width = (description: string, fallback: number[]) =>
  Type.Array(Type.Integer({ minimum: 1, maximum: 65536 }), { maxItems: 32, default: fallback, description })

export const NetworkSchema = Type.Union([
  Type.Object(
    { kind: Type.Literal('mlp'), hidden: width('Units of each hidden layer', [128]) },
    { additionalProperties: false, description: 'Fully connected layers with ReLU between them' },
  ),
  Type.Object(
    {
      kind: Type.Literal('cnn'),
      channels: width('Channels of each block: convolution 3×3, batch normalization, ReLU, maximum over 2×2', [16, 32, 64]),
      hidden: width('Units of each fully connected layer before the last', []),
    },
    {
      additionalProperties: false,
      description: 'Blocks of convolutions, the mean over positions or fully connected layers behind them; for inputs of channels, height and width',
    },
  ),
])

export type NetworkSpec = Static<typeof NetworkSchema>

export interface NetworkInterface {
  /** Name and dims of one row of the only input, float32. */
  input: { name: string; dims: readonly number[] }
  output: { name: string; classes: number }
}

/**
 * A model of one input [batch, …dims] and one output [batch, classes] that is not trained yet.
 * @throws RangeError for a cnn whose input does not have three dims, or is too small for its blocks
 */
export function buildNetwork(spec: NetworkSpec, { input, output }: NetworkInterface, seed: number): Model {
  const layers = new Layers(seed)
  const last =
    spec.kind === 'mlp' ? layers.dense(layers.flatten(input.name), elementCount(input.dims), spec.hidden, output) : cnn(layers, spec, { input, output })
  return makeModel({
    name: spec.kind,
    inputs: [valueInfo(input.name, 'float32', ['batch', ...input.dims])],
    outputs: [valueInfo(last, 'float32', ['batch', output.classes])],
    nodes: layers.nodes,
    initializers: layers.initializers,
  })
}

function cnn(layers: Layers, { channels, hidden }: Extract<NetworkSpec, { kind: 'cnn' }>, { input, output }: NetworkInterface): string {
  const [planes, height, across] = input.dims
  if (planes === undefined || height === undefined || across === undefined || input.dims.length !== 3) {
    throw new RangeError(`a cnn needs an input of channels, height and width, got dims [${input.dims.join(', ')}]`)
  }
  let [at, from, size] = [input.name, planes, [height, across]]
  for (const [index, to] of channels.entries()) {
    at = layers.block(`block${index + 1}`, at, from, to)
    from = to
    size = size.map((length) => Math.floor(length / 2))
    if (size.some((length) => length === 0)) throw new RangeError(`an input of ${height}×${across} is too small for ${channels.length} blocks that halve it`)
  }
  if (hidden.length > 0) return layers.dense(layers.flatten(at), from * elementCount(size), hidden, output)
  return layers.dense(layers.flatten(layers.pool(at)), from, [], output)
}

/** Nodes and weights of a network in the making; every method returns the name of what it computes. */
class Layers {
  readonly nodes: NodeProto[] = []
  readonly initializers: TensorProto[] = []
  readonly #random: () => number

  constructor(seed: number) {
    this.#random = mulberry32(seed)
  }

  /** Fully connected layers of these widths and one to the classes, ReLU between them. */
  dense(input: string, inputs: number, hidden: readonly number[], output: NetworkInterface['output']): string {
    const widths = [...hidden, output.classes]
    let [at, from] = [input, inputs]
    for (const [index, to] of widths.entries()) {
      const name = `dense${index + 1}`
      const last = index === widths.length - 1
      this.#weight(`${name}.weight`, [to, from], last ? 1 / from : 2 / from)
      this.#fill(`${name}.bias`, to, 0)
      at = this.#node('Gemm', [at, `${name}.weight`, `${name}.bias`], last ? output.name : name, { transB: 1 })
      if (!last) at = this.#node('Relu', [at], `${name}.relu`)
      from = to
    }
    return at
  }

  /** Convolution 3×3, batch normalization, ReLU, maximum over 2×2. */
  block(name: string, input: string, from: number, to: number): string {
    this.#weight(`${name}.conv.weight`, [to, from, 3, 3], 2 / (9 * from))
    this.#fill(`${name}.norm.scale`, to, 1)
    for (const [part, value] of [
      ['bias', 0],
      ['mean', 0],
      ['var', 1],
    ] as const)
      this.#fill(`${name}.norm.${part}`, to, value)
    const convolved = this.#node('Conv', [input, `${name}.conv.weight`], `${name}.conv`, { kernel_shape: [3, 3], pads: [1, 1, 1, 1] })
    const normalized = this.#node('BatchNormalization', [convolved, ...['scale', 'bias', 'mean', 'var'].map((part) => `${name}.norm.${part}`)], `${name}.norm`)
    return this.#node('MaxPool', [this.#node('Relu', [normalized], `${name}.relu`)], `${name}.pool`, { kernel_shape: [2, 2], strides: [2, 2] })
  }

  flatten(input: string): string {
    return this.#node('Flatten', [input], `${input}.flat`)
  }

  pool(input: string): string {
    return this.#node('GlobalAveragePool', [input], 'mean')
  }

  #node(opType: string, inputs: readonly string[], output: string, attributes: Record<string, number | number[]> = {}): string {
    this.nodes.push(node(opType, inputs, [output], { attributes }))
    return output
  }

  #weight(name: string, dims: readonly number[], variance: number): void {
    const bound = Math.sqrt(3 * variance)
    this.initializers.push(
      tensorProto(
        name,
        'float32',
        dims,
        Float32Array.from({ length: elementCount(dims) }, () => (2 * this.#random() - 1) * bound),
      ),
    )
  }

  #fill(name: string, count: number, value: number): void {
    this.initializers.push(tensorProto(name, 'float32', [count], new Float32Array(count).fill(value)))
  }
}
