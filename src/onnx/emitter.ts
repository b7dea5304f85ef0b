// Writes graphs node by node: every call adds a node and gives the name of what it computes. For code that
// composes whole computations (losses, gradients, optimizers); rewrite.ts is for changing graphs that exist.
import { toFloat16Bits } from '../tensor/float16.js'
import type { DType, NumericArray } from '../tensor/tensor.js'
import { node, tensorProto, type NodeOptions } from './builder.js'
import type { NodeProto, TensorProto } from './proto.js'

export class Emitter {
  readonly nodes: NodeProto[] = []
  readonly initializers: TensorProto[] = []
  readonly #unique: (base: string) => string
  readonly #constants = new Map<string, string>()

  /** `unique` makes names that nothing else in the model has (names.ts). */
  constructor(unique: (base: string) => string) {
    this.#unique = unique
  }

  /** Adds a node of one output and returns the output's name. */
  op(opType: string, inputs: readonly string[], options: NodeOptions = {}): string {
    return this.ops(opType, inputs, 1, options)[0] as string
  }

  /** Adds a node of several outputs and returns their names. */
  ops(opType: string, inputs: readonly string[], outputs: number, options: NodeOptions = {}): string[] {
    const names = Array.from({ length: outputs }, () => this.#unique(options.name ?? opType))
    this.nodes.push(node(opType, inputs, names, { ...options, name: names[0] as string }))
    return names
  }

  /** A constant of rank 0; equal ones are stored once. */
  scalar(value: number, dtype: Exclude<DType, 'string' | 'bfloat16'> = 'float32'): string {
    const stored = dtype === 'float16' ? toFloat16Bits(value) : value
    return this.#shared(`${dtype}:${Object.is(stored, -0) ? '-0' : stored}`, () => this.tensor(dtype, [], [stored]))
  }

  /** A constant list of int64, as shapes, axes and sizes are; equal ones are stored once. */
  ints(values: readonly number[]): string {
    return this.#shared(`ints:${values.join(',')}`, () => this.tensor('int64', [values.length], values))
  }

  /** A constant tensor; its bytes alias `data`. */
  tensor(dtype: Exclude<DType, 'string'>, dims: readonly number[], data: NumericArray | readonly number[], name = 'constant'): string {
    const unique = this.#unique(name)
    this.initializers.push(tensorProto(unique, dtype, dims, data))
    return unique
  }

  #shared(key: string, make: () => string): string {
    const known = this.#constants.get(key)
    if (known !== undefined) return known
    const made = make()
    this.#constants.set(key, made)
    return made
  }
}
