// Which of a model's constants are trained, and where each lies in the one flat vector that optimizers, clipping,
// all-reduce and checkpoints work on.
import { dtypeOf, tensorProto, tensorValues } from '../onnx/builder.js'
import { usedTensors } from '../onnx/graph.js'
import { shallowCopy, type GraphProto, type ModelProto, type NodeProto, type TensorProto } from '../onnx/proto.js'
import { elementCount } from '../tensor/tensor.js'
import { optionError } from './options.js'

/** A tensor's place in a flat vector. */
export interface Placed {
  name: string
  dims: readonly number[]
  /** Elements before it, and its own. */
  offset: number
  count: number
}

export interface Layout {
  tensors: readonly Placed[]
  /** Elements of the whole vector. */
  count: number
}

/** Inputs that say how an operator works; what lies there is not learned, even where it is made of floats. */
const SETTINGS: Readonly<Record<string, readonly number[]>> = {
  BatchNormalization: [3, 4],
  Clip: [1, 2],
  Pad: [2],
  Pow: [1],
  Resize: [1, 2],
}
/** Inputs that are learned even where they have one element only. */
const WEIGHTS: Readonly<Record<string, readonly number[]>> = {
  BatchNormalization: [1, 2],
  Conv: [1, 2],
  ConvTranspose: [1, 2],
  Gemm: [1, 2],
  GroupNormalization: [1, 2],
  InstanceNormalization: [1, 2],
  LayerNormalization: [1, 2],
  MatMul: [1],
  PRelu: [1],
}
/** Additive masks are made of numbers that no weight has. */
const MASK = 1e4

/**
 * Names of the float32 initializers of the outermost graph that are weights: those with more than one element, or in a
 * place where only weights are, but no settings of operators, statistics or masks. In the graph's order.
 */
export function weightNames({ graph }: ModelProto & { graph: GraphProto }): string[] {
  const places = placesOf(graph.node)
  return graph.initializer.filter((tensor) => isWeight(tensor, places.get(tensor.name) ?? [])).map(({ name }) => name)
}

/**
 * Names of a model's weights that are not frozen.
 * @param freeze names that stay as they are; `*` stands for any part of a name
 * @throws FlyweightError `invalid_input` where nothing is left, or for a name in `freeze` that no weight has
 */
export function trainableParameters(model: ModelProto & { graph: GraphProto }, { freeze = [] }: { freeze?: readonly string[] } = {}): string[] {
  const weights = weightNames(model)
  const patterns = freeze.map((text) => ({ text, pattern: new RegExp(`^${text.split('*').map(escape).join('.*')}$`, 's') }))
  const unknown = patterns.find(({ pattern }) => !weights.some((name) => pattern.test(name)))
  if (unknown !== undefined) throw optionError('/freeze', `got "${unknown.text}", expected the name of a weight, as ${weights.slice(0, 3).join(', ')}`)
  const left = weights.filter((name) => !patterns.some(({ pattern }) => pattern.test(name)))
  if (left.length === 0)
    throw optionError('/freeze', weights.length === 0 ? 'the model has no float32 weights to train' : 'it freezes every weight, expected some to train')
  return left
}

function escape(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&')
}

/** By tensor, the operators that read it and at which input. */
function placesOf(nodes: readonly NodeProto[]): Map<string, { opType: string; input: number }[]> {
  const places = new Map<string, { opType: string; input: number }[]>()
  for (const node of nodes) {
    for (const name of usedTensors(node)) {
      const place = { opType: node.opType, input: node.input.indexOf(name) }
      const known = places.get(name)
      if (known) known.push(place)
      else places.set(name, [place])
    }
  }
  return places
}

function isWeight(tensor: TensorProto, places: readonly { opType: string; input: number }[]): boolean {
  if (dtypeOf(tensor.dataType) !== 'float32' || places.length === 0) return false
  if (places.some(({ opType, input }) => SETTINGS[opType]?.includes(input))) return false
  if (places.some(({ opType, input }) => WEIGHTS[opType]?.includes(input))) return true
  if (elementCount(tensor.dims.map(Number)) <= 1) return false
  return !(tensorValues(tensor).data as Float32Array).some((value) => !(Math.abs(value) < MASK))
}

/** Places tensors one after the other. */
export function layoutOf(tensors: readonly { name: string; dims: readonly number[] }[]): Layout {
  let offset = 0
  const placed = tensors.map(({ name, dims }): Placed => {
    const count = elementCount(dims)
    offset += count
    return { name, dims, offset: offset - count, count }
  })
  return { tensors: placed, count: offset }
}

/** Runs of tensors, about equally many elements each: as many runs as asked for, or one a tensor. Offsets stay. */
export function dividedLayout({ tensors, count }: Layout, runs: number): Layout[] {
  const divided: Layout[] = []
  let first = 0
  for (let left = Math.min(runs, tensors.length); left > 0; left--) {
    const begin = tensors[first]?.offset ?? 0
    // Where a run may end at the latest, so that each of those behind it gets a tensor; it ends nearest to its share.
    const latest = tensors.length - left + 1
    const share = begin + (count - begin) / left
    let end = first + 1
    while (end < latest && Math.abs(endOf(tensors[end]) - share) < Math.abs(endOf(tensors[end - 1]) - share)) end += 1
    if (left === 1) end = tensors.length
    divided.push({ tensors: tensors.slice(first, end), count: endOf(tensors[end - 1]) - begin })
    first = end
  }
  return divided
}

function endOf(placed: Placed | undefined): number {
  return placed === undefined ? 0 : placed.offset + placed.count
}

/** The values of a model's initializers of these names in one vector. */
export function gatherParameters({ graph }: ModelProto & { graph: GraphProto }, layout: Layout): Float32Array<ArrayBuffer> {
  const stored = new Map(graph.initializer.map((tensor) => [tensor.name, tensor]))
  const flat = new Float32Array(layout.count)
  for (const { name, offset } of layout.tensors) flat.set(tensorValues(stored.get(name) as TensorProto).data as Float32Array, offset)
  return flat
}

/** The model with values of a vector in place of those initializers; the rest is shared with the model given. */
export function withParameters<M extends ModelProto & { graph: GraphProto }>(model: M, layout: Layout, flat: Float32Array<ArrayBuffer>): M {
  const values = new Map(layout.tensors.map(({ name, dims, offset, count }) => [name, tensorProto(name, 'float32', dims, flat.slice(offset, offset + count))]))
  const trained = shallowCopy(model)
  trained.graph = shallowCopy(model.graph)
  trained.graph.initializer = model.graph.initializer.map((tensor) => values.get(tensor.name) ?? tensor)
  return trained
}
