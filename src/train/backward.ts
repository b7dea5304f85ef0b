// Reverse-mode differentiation of a graph: from the loss backwards, each node's gradient function turns the gradients of
// its outputs into those of its inputs; what a tensor gets from several readers is added. Griewank and Walther,
// "Evaluating Derivatives" (2008), chapter 3. It only emits nodes: whoever runs them is not its business.
import { FlyweightError } from '../errors.js'
import type { Emitter } from '../onnx/emitter.js'
import { usedTensors } from '../onnx/graph.js'
import type { NodeProto } from '../onnx/proto.js'
import type { GradientContext, Tensors } from './gradient.js'
import { gradients } from './gradients/table.js'

/** Operators whose results do not change with a small change of their inputs. */
const FLAT = new Set(['Floor', 'Ceil', 'Round', 'Sign'])
const FLOATS = new Set(['float32', 'float64', 'float16', 'bfloat16'])

export interface BackwardOptions {
  /** Nodes in topological order, those of the loss included. */
  nodes: readonly NodeProto[]
  /** A tensor of one element. */
  loss: string
  /** Tensors whose gradients are asked for. */
  wanted: readonly string[]
  tensors: Tensors
  emit: Emitter
  /** The gradient of the loss by itself: a tensor of the loss' shape and type. Default: one. A loss scale goes here. */
  seed?: string
  trace?: BackwardTrace
}

/** Told while nodes are emitted. */
export interface BackwardTrace {
  /** What is emitted from now on belongs to this node of `nodes`; after the last one, to none. */
  begin(node: NodeProto | undefined): void
  /** A gradient of the loss by `tensor`, of its shape and type, or a part of one. */
  gradient(tensor: string, gradient: string): void
}

/**
 * Emits nodes that compute the gradients of `loss` by each of `wanted`, of their shapes and types; zeros where the loss
 * does not depend on one.
 * @throws FlyweightError `invalid_model` for a node on the way that has no gradient, with the path from it to the loss
 */
export function emitBackward({ nodes, loss, wanted, tensors, emit, seed, trace }: BackwardOptions): Map<string, string> {
  const depends = dependents(nodes, wanted, tensors)
  const parts = new Map<string, string[]>([[loss, [seed ?? onesLike(loss, tensors, emit)]]])
  const total = (tensor: string): string | undefined => {
    const found = parts.get(tensor)
    if (found === undefined) return undefined
    const sum = found.length === 1 ? (found[0] as string) : emit.op('Sum', found, { name: `grad_${tensor}` })
    parts.set(tensor, [sum])
    trace?.gradient(tensor, sum)
    return sum
  }
  for (const node of nodes.toReversed()) {
    if (!node.output.some((output) => parts.has(output)) || ![...usedTensors(node)].some((input) => depends.has(input))) continue
    trace?.begin(node)
    const upstream = node.output.map((output) => (output === '' ? undefined : total(output)))
    const gradient = gradients.get(node.opType)
    if (gradient === undefined || (node.domain !== '' && node.domain !== 'ai.onnx')) throw noGradient(node, nodes, loss)
    const results = gradient(contextOf(node, { upstream, depends, tensors, emit }))
    for (const [index, result] of results.entries()) {
      const input = node.input[index]
      if (result === undefined || input === undefined || !depends.has(input)) continue
      trace?.gradient(input, result)
      const known = parts.get(input)
      if (known) known.push(result)
      else parts.set(input, [result])
    }
  }
  trace?.begin(undefined)
  return new Map(wanted.map((tensor) => [tensor, total(tensor) ?? zerosLike(tensor, tensors, emit)]))
}

/** Tensors that a change of `wanted` changes smoothly. */
function dependents(nodes: readonly NodeProto[], wanted: readonly string[], tensors: Tensors): Set<string> {
  const depends = new Set(wanted)
  for (const node of nodes) {
    if (FLAT.has(node.opType) || ![...usedTensors(node)].some((input) => depends.has(input))) continue
    for (const output of node.output) if (output !== '' && FLOATS.has(tensors.dtype(output))) depends.add(output)
  }
  return depends
}

function contextOf(
  node: NodeProto,
  { upstream, depends, tensors, emit }: Pick<GradientContext, 'upstream' | 'emit'> & { depends: ReadonlySet<string>; tensors: Tensors },
): GradientContext {
  return {
    node,
    emit,
    upstream,
    dims: (tensor) => tensors.dims(tensor),
    dtype: (tensor) => tensors.dtype(tensor),
    // A tensor that is trained is not constant, however it is stored.
    constant: (tensor) => (depends.has(tensor) ? undefined : tensors.constant(tensor)),
    wants: (input) => depends.has(node.input[input] ?? ''),
    scalar: (value) => emit.scalar(value, tensors.dtype(node.output[0] as string) as 'float32'),
    refuse: (reason) => {
      throw new FlyweightError('invalid_model', `${labelOf(node)} cannot be trained through: ${reason}`)
    },
  }
}

function noGradient(node: NodeProto, nodes: readonly NodeProto[], loss: string): FlyweightError {
  const path = pathTo(loss, node, nodes)
  return new FlyweightError('invalid_model', `${labelOf(node)} cannot be trained through: the operator has no gradient; on the way to the loss: ${path}`)
}

/** Operators from a node on to the loss, along first readers. */
function pathTo(loss: string, start: NodeProto, nodes: readonly NodeProto[]): string {
  const labels = [labelOf(start)]
  for (let node = start; !node.output.includes(loss); ) {
    const outputs = new Set(node.output.filter((output) => output !== ''))
    const next = nodes.findLast((reader) => [...usedTensors(reader)].some((input) => outputs.has(input)))
    if (next === undefined) break
    labels.push(labelOf(next))
    node = next
  }
  return labels.join(' → ')
}

function labelOf(node: NodeProto): string {
  return node.name === '' ? node.opType : `${node.opType} "${node.name}"`
}

function onesLike(tensor: string, tensors: Tensors, emit: Emitter): string {
  const dims = tensors.dims(tensor)
  const one = emit.scalar(1, tensors.dtype(tensor) as 'float32')
  return dims.length === 0 ? one : emit.op('Expand', [one, emit.ints(dims)])
}

function zerosLike(tensor: string, tensors: Tensors, emit: Emitter): string {
  return emit.op('Expand', [emit.scalar(0, tensors.dtype(tensor) as 'float32'), emit.ints(tensors.dims(tensor))])
}
