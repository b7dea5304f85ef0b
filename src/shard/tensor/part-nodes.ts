// The nodes of one part of a block: as in the model, but with weights of its own and the sizes that these give.
import { intAttribute, intsAttribute, setAttribute } from '../../onnx/attributes.js'
import { node as makeNode, tensorProto } from '../../onnx/builder.js'
import { shallowCopy, type NodeProto, type TensorProto } from '../../onnx/proto.js'
import type { AxisSplit } from './axis-split.js'
import type { BlockContext } from './block.js'
import type { PlacedBlock } from './layout.js'
import { nonNegative } from './rules.js'
import { partSize, sliceTensor } from './slice-weights.js'

export interface PartNodes {
  /** What stands in for each node of the block, those absorbed included. */
  nodes: ReadonlyMap<NodeProto, readonly NodeProto[]>
  initializers: readonly TensorProto[]
}

interface PartContext extends BlockContext {
  uniqueName(base: string): string
}

/** Part 0 alone has what must be counted once: biases of sums, and what was absorbed. */
export function partNodes(block: PlacedBlock, part: number, context: PartContext): PartNodes {
  const { index, shapes, isConstant, uniqueName } = context
  const range = block.shares[part]!
  const initializers: TensorProto[] = []
  const store = (tensor: TensorProto) => {
    initializers.push(tensor)
    return tensor.name
  }
  // Of cut constants others may read the whole in the same stage.
  const renamed = new Map([...block.splits.keys()].filter(isConstant).map((name) => [name, uniqueName(`${name}.part-${part}`)]))
  for (const name of block.weights) {
    store(sliceTensor(index.constantProto(name)!, block.splits.get(name)!, { name: renamed.get(name)!, range }))
  }
  const absorbed = part === 0 ? block.absorbed : []
  const last = part === 0 ? block.output : block.join.kind === 'sum' ? block.join.at.output[0]! : block.output
  renamed.set(last, block.partials[part]!)
  const resized = (copy: NodeProto, split: AxisSplit): NodeProto[] => {
    const size = partSize(split, range)
    const own = shapes.dims(copy.output[0]!) ?? []
    if ((copy.opType === 'Reshape' || copy.opType === 'Expand') && size !== undefined) {
      const shape = resizedShape(copy.input[1]!, { axis: split.axis, size, rank: own[0]!.length }, { shapes, uniqueName, store })
      copy.input[1] = shape.name
      return [...shape.nodes, copy]
    }
    if (copy.opType === 'Split' && size !== undefined && nonNegative(intAttribute(copy, 'axis', 0), own[0]!.length) === split.axis) {
      const sizes = copy.output.map(() => size)
      if (copy.input.length > 1) copy.input[1] = store(tensorProto(uniqueName(`${copy.input[1]}.part`), 'int64', [sizes.length], sizes))
      else if (intsAttribute(copy, 'split') !== undefined) setAttribute(copy, 'split', sizes)
    }
    if (copy.opType === 'Conv' && intAttribute(copy, 'group', 1) > 1 && size !== undefined) setAttribute(copy, 'group', size)
    return [copy]
  }
  const nodes = new Map<NodeProto, readonly NodeProto[]>()
  for (const node of [...block.nodes, ...absorbed]) {
    const split = node.output.map((name) => block.splits.get(name)).find((each) => each !== undefined)
    const copy = shallowCopy(node)
    copy.attribute = [...node.attribute]
    copy.input = [...node.input]
    copy.output = [...node.output]
    if (block.join.kind === 'sum' && block.join.at === node && part > 0) copy.input = copy.input.slice(0, 2)
    const made = split === undefined ? [copy] : resized(copy, split)
    for (const each of made) {
      each.input = each.input.map((name) => renamed.get(name) ?? name)
      each.output = each.output.map((name) => renamed.get(name) ?? name)
    }
    nodes.set(node, made)
  }
  return { nodes, initializers }
}

interface Resizing {
  shapes: BlockContext['shapes']
  uniqueName(base: string): string
  store(tensor: TensorProto): string
}

/** A shape with another size at `axis`. One that leaves the size there to the runtime stays as it is. */
function resizedShape(shape: string, { axis, size, rank }: { axis: number; size: number; rank: number }, { shapes, uniqueName, store }: Resizing) {
  const known = shapes.ints(shape)
  const ints = (base: string, values: readonly number[]) => store(tensorProto(uniqueName(base), 'int64', [values.length], values))
  if (known !== undefined) {
    if (known[axis]! <= 0) return { name: shape, nodes: [] }
    return { name: ints(`${shape}.part`, known.with(axis, size)), nodes: [] }
  }
  const axes = Array.from({ length: rank }, (_, each) => each)
  const [before, name, after] = ['before', 'part', 'after'].map((each) => uniqueName(`${shape}.${each}`)) as [string, string, string]
  const pieces: string[] = []
  const nodes: NodeProto[] = []
  const take = (output: string, taken: readonly number[]) => {
    if (taken.length === 0) return
    nodes.push(makeNode('Gather', [shape, ints(`${output}.axes`, taken)], [output]))
    pieces.push(output)
  }
  take(before, axes.slice(0, axis))
  pieces.push(ints(`${shape}.size`, [size]))
  take(after, axes.slice(axis + 1))
  nodes.push(makeNode('Concat', pieces, [name], { attributes: { axis: 0 } }))
  return { name, nodes }
}
