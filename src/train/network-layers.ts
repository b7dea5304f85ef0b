// Nodes and weights of a network in the making. Weights are drawn by seed as He et al., "Delving Deep into Rectifiers"
// (2015, https://arxiv.org/abs/1502.01852), do: uniform, with the variance that keeps signals as large as they come in.
import { node, tensorProto } from '../onnx/builder.js'
import type { AttributeValue } from '../onnx/attributes.js'
import type { NodeProto, TensorProto } from '../onnx/proto.js'
import { mulberry32 } from '../runtime/sample-inputs.js'
import { elementCount } from '../tensor/tensor.js'

/** Every method returns the name of what it computes. */
export class Layers {
  readonly nodes: NodeProto[] = []
  readonly initializers: TensorProto[] = []
  readonly #random: () => number

  constructor(seed: number) {
    this.#random = mulberry32(seed)
  }

  /** Fully connected layers of these widths and one to the classes, ReLU between them. */
  dense(input: string, inputs: number, hidden: readonly number[], output: { name: string; classes: number }): string {
    const widths = [...hidden, output.classes]
    let [at, from] = [input, inputs]
    for (const [index, to] of widths.entries()) {
      const name = `dense${index + 1}`
      const last = index === widths.length - 1
      this.weight(`${name}.weight`, [to, from], last ? 1 / from : 2 / from)
      this.fill(`${name}.bias`, to, 0)
      at = this.node('Gemm', [at, `${name}.weight`, `${name}.bias`], last ? output.name : name, { transB: 1 })
      if (!last) at = this.node('Relu', [at], `${name}.relu`)
      from = to
    }
    return at
  }

  /** Convolution 3×3, batch normalization, ReLU, maximum over 2×2. */
  block(name: string, input: string, from: number, to: number): string {
    this.weight(`${name}.conv.weight`, [to, from, 3, 3], 2 / (9 * from))
    this.fill(`${name}.norm.scale`, to, 1)
    for (const [part, value] of [
      ['bias', 0],
      ['mean', 0],
      ['var', 1],
    ] as const)
      this.fill(`${name}.norm.${part}`, to, value)
    const convolved = this.node('Conv', [input, `${name}.conv.weight`], `${name}.conv`, { kernel_shape: [3, 3], pads: [1, 1, 1, 1] })
    const normalized = this.node('BatchNormalization', [convolved, ...['scale', 'bias', 'mean', 'var'].map((part) => `${name}.norm.${part}`)], `${name}.norm`)
    return this.node('MaxPool', [this.node('Relu', [normalized], `${name}.relu`)], `${name}.pool`, { kernel_shape: [2, 2], strides: [2, 2] })
  }

  flatten(input: string): string {
    return this.node('Flatten', [input], `${input}.flat`)
  }

  pool(input: string): string {
    return this.node('GlobalAveragePool', [input], 'mean')
  }

  /** Along the last axis: x·W + b. */
  linear(input: string, name: string, [from, to]: readonly [number, number]): string {
    this.weight(`${name}.weight`, [from, to], 1 / from)
    this.fill(`${name}.bias`, to, 0)
    return this.node('Add', [this.node('MatMul', [input, `${name}.weight`], `${name}.product`), `${name}.bias`], name)
  }

  /** Layer normalization along the last axis. */
  layerNorm(input: string, name: string, width: number): string {
    this.fill(`${name}.scale`, width, 1)
    this.fill(`${name}.bias`, width, 0)
    return this.node('LayerNormalization', [input, `${name}.scale`, `${name}.bias`], name, { axis: -1 })
  }

  /** To these dims: 0 for one that stays, −1 for what is left. */
  reshape(input: string, name: string, dims: readonly number[]): string {
    this.initializers.push(tensorProto(`${name}.dims`, 'int64', [dims.length], dims))
    return this.node('Reshape', [input, `${name}.dims`], name)
  }

  node(opType: string, inputs: readonly string[], output: string, attributes: Record<string, AttributeValue> = {}): string {
    this.nodes.push(node(opType, inputs, [output], { attributes }))
    return output
  }

  /** A weight of this mean square. */
  weight(name: string, dims: readonly number[], variance: number): string {
    const bound = Math.sqrt(3 * variance)
    this.initializers.push(
      tensorProto(
        name,
        'float32',
        dims,
        Float32Array.from({ length: elementCount(dims) }, () => (2 * this.#random() - 1) * bound),
      ),
    )
    return name
  }

  fill(name: string, count: number, value: number): string {
    this.initializers.push(tensorProto(name, 'float32', [count], new Float32Array(count).fill(value)))
    return name
  }

  /** A number that is not trained. */
  scalar(name: string, value: number): string {
    this.initializers.push(tensorProto(name, 'float32', [], [value]))
    return name
  }
}
