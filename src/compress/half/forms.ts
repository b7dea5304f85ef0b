// The two forms of the float tensors of one graph, float32 and half: who has which, and the Casts and constants
// that make the other where it is wanted. Tensors of the graphs around it are asked of those. convert.ts decides who wants what.
import { node as makeNode, tensorProto, tensorValues } from '../../onnx/builder.js'
import { GraphIndex } from '../../onnx/graph.js'
import type { GraphProto, NodeProto, TensorProto } from '../../onnx/proto.js'
import { float16From } from '../../tensor/float16.js'
import type { DType } from '../../tensor/tensor.js'
import type { GraphTypes } from '../tensor-types.js'
import { FLOAT, HALF } from './operators.js'

export type Form = 'float' | 'half'

export const LARGEST = 65504
/** The least positive half: smaller values would become zero. */
const LEAST = 2 ** -24

export interface FormsOptions {
  types: GraphTypes
  /** Makes a name that the model does not have. */
  unique: (base: string) => string
  outer?: Forms
}

export class Forms {
  readonly graph: GraphProto
  readonly index: GraphIndex
  /** The nodes of the converted graph so far. */
  readonly nodes: NodeProto[] = []
  readonly #types: GraphTypes
  readonly #unique: (base: string) => string
  readonly #outer: Forms | undefined
  readonly #names = new Map<string, Partial<Record<Form, string>>>()
  /** Tensors whose node, or whose caller, gives the half form. */
  readonly #halves = new Set<string>()
  /** Names that a Cast or constant made. */
  readonly #made = new Set<string>()
  /** Half tensors of the source that are another tensor's half form. */
  readonly #aliases = new Map<string, string>()

  constructor(graph: GraphProto, { types, unique, outer }: FormsOptions) {
    this.graph = graph
    this.index = new GraphIndex(graph, outer?.index)
    this.#types = types
    this.#unique = unique
    this.#outer = outer
  }

  typeOf(tensor: string): DType | undefined {
    return this.#types.get(tensor) ?? this.#outer?.typeOf(tensor)
  }

  isFloat(tensor: string): boolean {
    return this.typeOf(tensor) === 'float32'
  }

  isConstant(tensor: string): boolean {
    return this.index.constantProto(tensor) !== undefined
  }

  /** What a form of a tensor of this graph is called: the float form as the tensor, unless `called` said otherwise. */
  name(tensor: string, form: Form): string {
    const names = this.#names.get(tensor) ?? {}
    this.#names.set(tensor, names)
    return (names[form] ??= form === 'float' ? tensor : this.#unique(`${tensor}::half`))
  }

  /** The tensor's own name means its half form: for inputs and outputs of the model. */
  namedHalf(tensor: string): void {
    this.#names.set(tensor, { half: tensor, float: this.#unique(`${tensor}::float`) })
  }

  /** Whether the half form of a tensor of this graph is there without a Cast. */
  isHalf(tensor: string): boolean {
    return this.#halves.has(tensor)
  }

  /** Says that the half form exists, under `name` if given. */
  written(tensor: string, name?: string): void {
    if (name !== undefined) this.#names.set(tensor, { ...this.#names.get(tensor), half: name })
    this.#halves.add(tensor)
  }

  /** Lets every reader of a half tensor read `other` in its stead. */
  alias(tensor: string, other: string): void {
    this.#aliases.set(tensor, other)
  }

  /** The name to read a tensor by; makes the form where it is not there. */
  wanted(tensor: string, form: Form): string {
    if (!this.#types.has(tensor)) return this.#outer?.wanted(tensor, form) ?? tensor
    if (!this.isFloat(tensor)) return this.#aliases.get(tensor) ?? tensor
    const name = this.name(tensor, form)
    if (this.#halves.has(tensor) === (form === 'half') || this.#made.has(name)) return name
    this.#made.add(name)
    const constant = this.index.initializer(tensor)
    if (constant !== undefined && form === 'half') this.graph.initializer.push(halfConstant(constant, name))
    else this.#cast(this.name(tensor, form === 'half' ? 'float' : 'half'), name, form === 'half' ? HALF : FLOAT)
    return name
  }

  /** A float32 tensor of values that half precision has; tensors of other types as they are. */
  rounded(tensor: string): string {
    if (!this.#types.has(tensor)) return this.#outer?.rounded(tensor) ?? tensor
    const half = this.wanted(tensor, 'half')
    if (!this.isFloat(tensor)) return half
    const name = `${half}::rounded`
    if (!this.#made.has(name)) {
      this.#made.add(name)
      this.#cast(half, name, FLOAT)
    }
    return name
  }

  /** Makes a tensor in that form available under its own name, as an output needs it. */
  output(tensor: string, form: Form): void {
    const name = this.wanted(tensor, form)
    if (name !== tensor) this.nodes.push(makeNode('Identity', [name], [tensor], { name: this.#unique(`${tensor}::output`) }))
  }

  /** Adds a node that writes the tensors `outputs` in half precision though it computes in float32. */
  addRounding(node: NodeProto): void {
    const outputs = node.output.filter((tensor) => this.isFloat(tensor))
    node.output = node.output.map((tensor) => (this.isFloat(tensor) ? `${this.name(tensor, 'half')}::exact` : tensor))
    this.nodes.push(node)
    for (const tensor of outputs) {
      this.#halves.add(tensor)
      this.#cast(`${this.name(tensor, 'half')}::exact`, this.name(tensor, 'half'), HALF)
    }
  }

  #cast(from: string, name: string, to: number): void {
    this.nodes.push(makeNode('Cast', [from], [name], { attributes: { to }, name: this.#unique(`${name}::cast`) }))
  }
}

function halfConstant(proto: TensorProto, name: string): TensorProto {
  const { data, dims } = tensorValues(proto)
  return tensorProto(name, 'float16', dims, float16From((data as Float32Array).map(representable)))
}

/** Finite values stay finite, and not zero: what overflows becomes the largest half, what vanishes the least. */
function representable(value: number): number {
  if (value === 0 || !Number.isFinite(value)) return value
  return Math.sign(value) * Math.min(LARGEST, Math.max(LEAST, Math.abs(value)))
}
