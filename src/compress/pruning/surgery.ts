// Takes removed channels out of a model: the same indices of every weight, and the constants of the nodes that
// name sizes. Which ones go is decided elsewhere.
import { intAttribute, intsAttribute, removeAttribute, setAttribute } from '../../onnx/attributes.js'
import { dtypeOf, node as makeNode, tensorProto } from '../../onnx/builder.js'
import { tensorNames } from '../../onnx/names.js'
import type { NodeProto, TensorProto } from '../../onnx/proto.js'
import { tensorValues } from '../../onnx/builder.js'
import { allocate, elementCount, type NumericArray } from '../../tensor/tensor.js'
import type { Model } from '../passes/pass.js'
import type { Groups } from './groups.js'
import { constantNumbers, rankOf, slicedAxes } from './coupling.js'

/** Indices along an axis that stay; undefined where all do. */
export type Kept = (tensor: string, axis: number) => number[] | undefined

export function keptIndices({ coordinates }: Groups, removed: ReadonlySet<number>): Kept {
  const kept = new Map<string, number[]>()
  for (const { tensor, axis } of coordinates.axes) {
    const classes = coordinates.classesOf({ tensor, axis })
    if (!classes.some((root) => removed.has(root))) continue
    const stay = [...classes.keys()].filter((i) => !removed.has(classes[i] as number))
    kept.set(`${axis} ${tensor}`, stay)
  }
  return (tensor, axis) => kept.get(`${axis} ${tensor}`)
}

/** Sizes of a tensor after the removal, in the first feed set. */
export function keptDims({ facts }: Groups, kept: Kept): (tensor: string) => number[] | undefined {
  return (tensor) => facts.shapes.of(tensor)?.[0]?.map((size, axis) => kept(tensor, axis)?.length ?? size)
}

/** Removes everything that does not stay from `model`, in place; `found` is of the same model. */
export function removeChannels(model: Model, found: Groups, kept: Kept): void {
  const { graph } = model
  const uniqueName = tensorNames(model)
  const added: TensorProto[] = []
  const constant = (base: string, values: readonly number[], dtype: 'int32' | 'int64' | 'bool' = 'int64') => {
    const proto = tensorProto(uniqueName(base), dtype, [values.length], values)
    added.push(proto)
    return proto.name
  }
  graph.node = graph.node.flatMap((node) => patched(node, { found, kept, constant, uniqueName }))
  graph.initializer = [...graph.initializer.map((proto) => sliced(proto, kept)), ...added]
  graph.valueInfo = []
}

function sliced(proto: TensorProto, kept: Kept): TensorProto {
  let { dims } = { dims: proto.dims.map(Number) }
  if (!dims.some((_, axis) => kept(proto.name, axis))) return proto
  const { dtype, data } = tensorValues(proto)
  let values = data as NumericArray
  for (const [axis] of dims.entries()) {
    const indices = kept(proto.name, axis)
    if (indices === undefined) continue
    const size = dims[axis] as number
    const inner = elementCount(dims.slice(axis + 1))
    const outer = elementCount(dims.slice(0, axis))
    const next = allocate(dtype, outer * indices.length * inner) as NumericArray
    for (let block = 0; block < outer; block++) {
      for (const [to, from] of indices.entries()) {
        const first = (block * size + from) * inner
        next.set(values.subarray(first, first + inner) as never, (block * indices.length + to) * inner)
      }
    }
    values = next
    dims = dims.map((dim, at) => (at === axis ? indices.length : dim))
  }
  return tensorProto(proto.name, dtype as 'float32', dims, values)
}

interface PatchContext {
  found: Groups
  kept: Kept
  constant: (base: string, values: readonly number[], dtype?: 'int32' | 'int64' | 'bool') => string
  uniqueName: (base: string) => string
}

/** The node as it must be after the removal, and what it needs before it. */
function patched(node: NodeProto, context: PatchContext): NodeProto[] {
  const { found, kept, constant } = context
  const { shapes, index } = found.facts
  const [x = '', y = ''] = [node.input[0], node.output[0]]
  switch (node.opType) {
    case 'Conv':
    case 'ConvTranspose': {
      const channels = kept(x, 1)
      if (channels && intAttribute(node, 'group', 1) === shapes.size(x, 1)) setAttribute(node, 'group', channels.length)
      return [node]
    }
    case 'Reshape':
    case 'Expand':
      return withSizes(node, { at: 1, axes: undefined }, context)
    case 'Resize':
      return (node.input[3] ?? '') === '' ? [node] : withSizes(node, { at: 3, axes: intsAttribute(node, 'axes') }, context)
    case 'Split': {
      const rank = rankOf(x, shapes)
      const axis = (intAttribute(node, 'axis', 0) + rank) % rank
      if (kept(x, axis) === undefined) return [node]
      const parts = node.output.map((part) => kept(part, axis)?.length ?? shapes.size(part, axis) ?? 0)
      node.input[1] = constant(`${y}::split`, parts)
      removeAttribute(node, 'num_outputs')
      return [node]
    }
    case 'Slice': {
      const cut = slicedAxes(node, found.facts) ?? []
      if (!cut.some(({ axis }) => kept(x, axis))) return [node]
      const [starts, ends] = [constantNumbers(node, 1, index) ?? [], constantNumbers(node, 2, index) ?? []]
      for (const { axis, start, position } of cut) {
        const stay = kept(x, axis)
        if (stay === undefined) continue
        starts[position] = stay.filter((i) => i < start).length
        ends[position] = starts[position] + (kept(y, axis)?.length ?? shapes.size(y, axis) ?? 0)
      }
      const dtype = dtypeOf(index.constantProto(node.input[1] ?? '')?.dataType ?? 0) === 'int32' ? 'int32' : 'int64'
      node.input[1] = constant(`${y}::starts`, starts, dtype)
      node.input[2] = constant(`${y}::ends`, ends, dtype)
      return [node]
    }
    default:
      return [node]
  }
}

/** Writes new sizes over those of a list of sizes that is an input: into a copy of a constant, or after it is computed. */
function withSizes(
  node: NodeProto,
  { at, axes }: { at: number; axes: number[] | undefined },
  { found, kept, constant, uniqueName }: PatchContext,
): NodeProto[] {
  const { shapes, index } = found.facts
  const y = node.output[0] ?? ''
  const list = node.input[at] ?? ''
  const rank = rankOf(y, shapes)
  const length = shapes.of(list)?.[0]?.[0] ?? rank
  const stay = Array.from({ length }, (_, i) => {
    const given = axes?.[i] ?? i + rank - length
    const axis = given < 0 ? given + rank : given
    // A size that varies is computed from others, which follow.
    return shapes.size(y, axis) === undefined ? undefined : kept(y, axis)?.length
  })
  if (stay.every((size) => size === undefined)) return [node]
  const values = constantNumbers(node, at, index)
  if (values !== undefined) {
    node.input[at] = constant(
      `${y}::sizes`,
      values.map((value, i) => stay[i] ?? value),
    )
    return [node]
  }
  const chosen = uniqueName(`${y}::sizes`)
  const mask = constant(
    `${y}::changed`,
    stay.map((size) => (size === undefined ? 0 : 1)),
    'bool',
  )
  const sizes = constant(
    `${y}::kept`,
    stay.map((size) => size ?? 0),
  )
  node.input[at] = chosen
  return [makeNode('Where', [mask, sizes, list], [chosen]), node]
}
