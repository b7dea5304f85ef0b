// What an upgrade rule is and what it may use. The rules themselves are grouped by the kind of change:
// attributes-to-inputs.ts, semantics.ts, resampling.ts, scan.ts.
import { FlyweightError } from '../../errors.js'
import { toFloat16Bits } from '../../tensor/float16.js'
import { dtypes, type DType, type Tensor } from '../../tensor/tensor.js'
import { dtypeOf, node as makeNode, tensorProto } from '../builder.js'
import type { GraphIndex } from '../graph.js'
import type { GraphProto, NodeProto } from '../proto.js'
import type { Fact, Facts } from './facts.js'

/**
 * Takes a node as the previous version of ai.onnx means it and changes it in place to mean the same in the
 * new version, or returns the nodes that replace it (in order, in the new version's dialect).
 */
export type UpgradeRule = (node: NodeProto, context: UpgradeContext) => readonly NodeProto[] | void

/** Rules by `<operator>-<version that made the change>`. */
export type UpgradeRules = Readonly<Record<string, UpgradeRule>>

export interface UpgradeContext {
  fact: (tensor: string | undefined) => Fact
  /** Values of a constant tensor, or undefined. */
  constant: (tensor: string | undefined) => Tensor | undefined
  /** True when a node or the graph's outputs read `tensor`. */
  isUsed: (tensor: string | undefined) => boolean
  /** A new tensor name derived from the node's first output. */
  name: (suffix: string) => string
  /** Adds an initializer; returns its name. */
  initializer: (suffix: string, dtype: Exclude<DType, 'string'>, dims: readonly number[], values: readonly number[]) => string
  /** @throws FlyweightError `invalid_model` that names the node. */
  fail: (reason: string) => never
}

export interface ContextOptions {
  graph: GraphProto
  index: GraphIndex
  facts: Facts
  uniqueName: (base: string) => string
}

export function contextFor(node: NodeProto, { graph, index, facts, uniqueName }: ContextOptions): UpgradeContext {
  const base = node.output.find((name) => name !== '') ?? node.opType
  const name = (suffix: string) => uniqueName(`${base}_${suffix}`)
  return {
    fact: (tensor) => facts.of(tensor),
    constant: (tensor) => (tensor === undefined || tensor === '' ? undefined : index.constant(tensor)),
    isUsed: (tensor) => tensor !== undefined && tensor !== '' && (index.consumers(tensor).length > 0 || index.isOutput(tensor)),
    name,
    initializer: (suffix, dtype, dims, values) => {
      const tensor = tensorProto(name(suffix), dtype, dims, values)
      graph.initializer.push(tensor)
      return tensor.name
    },
    fail: (reason) => failAt(node, reason),
  }
}

export function failAt(node: NodeProto, reason: string): never {
  throw new FlyweightError('invalid_model', `node "${node.name || node.output[0]}" (${node.opType}) cannot be upgraded: ${reason}`)
}

/** A scalar of the same type as `like`: a constant where the type is known, else a CastLike added to `before`. */
export function scalarLike(like: string, suffix: string, value: number, context: UpgradeContext, before: NodeProto[]): string {
  const dtype = dtypeOf(context.fact(like).type ?? dtypes.bfloat16.onnx)
  if (dtype === 'float16') return context.initializer(suffix, dtype, [], [toFloat16Bits(value)])
  if (dtype !== undefined && dtype !== 'bfloat16' && dtype !== 'string') return context.initializer(suffix, dtype, [], [value])
  const cast = makeNode('CastLike', [context.initializer(`${suffix}_float`, 'float32', [], [value]), like], [context.name(suffix)])
  before.push(cast)
  return cast.output[0] as string
}

/** Puts `name` at `position` of a node's inputs, filling the gap with absent optional inputs. */
export function setInput(node: NodeProto, position: number, name: string): void {
  while (node.input.length <= position) node.input.push('')
  node.input[position] = name
}
