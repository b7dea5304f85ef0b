// Groups of channels: from the coupling of every operator to the sets of things that can be removed one by one,
// each with all its coordinates in all tensors. What to remove is left to importance.ts and allocate.ts.
// Vocabulary and method follow DepGraph, Fang et al. 2023, https://arxiv.org/abs/2301.12900.
import { GraphIndex, usedTensors } from '../../onnx/graph.js'
import type { NodeProto } from '../../onnx/proto.js'
import { dtypes } from '../../tensor/tensor.js'
import { labelOf } from '../passes/decisions.js'
import type { Model } from '../passes/pass.js'
import { Coordinates, keyOf, type AxisRef } from './coordinates.js'
import { RESHAPES, reshapeLinks } from './reshaping.js'
import type { Facts } from './coupling.js'
import { rules } from './rules.js'
import type { Shapes } from './shapes.js'

export interface Member extends AxisRef {
  /** For each unit of the group, the indices along this axis that are its. */
  indices: number[][]
}

/** Units that span the same axes: the channels of a layer with all that reads and writes them. */
export interface Group {
  /** Classes of coordinates, one a unit, in the order of their first coordinate. */
  units: number[]
  members: Member[]
}

export interface Groups {
  groups: Group[]
  coordinates: Coordinates
  facts: Facts
  /** Initializers with at least two axes: what a removal makes smaller. */
  weights: ReadonlySet<string>
}

/** float32, float16, float64: types of weights. */
const FLOATS: ReadonlySet<number> = new Set([dtypes.float32, dtypes.float16, dtypes.float64].map(({ onnx }) => onnx))

/** Finds all groups of a model (opset 18 or newer, constants as initializers); `exclude` names nodes whose weights stay. */
export function findGroups(model: Model, shapes: Shapes, { exclude, normalized }: { exclude: ReadonlySet<string>; normalized: boolean }): Groups {
  const { graph } = model
  const index = new GraphIndex(graph)
  const facts = { shapes, index, normalized }
  const tensors = new Set(graph.node.flatMap((node) => [...usedTensors(node), ...node.output]).filter((name) => name !== ''))
  const coordinates = new Coordinates(shapes, tensors)
  const blockTensor = (tensor: string, reason: string) => {
    for (let axis = 0; axis < (shapes.of(tensor)?.[0]?.length ?? 0); axis++) coordinates.block({ tensor, axis }, reason)
  }
  for (const { name } of graph.input) blockTensor(name, 'they are the size of a model input')
  for (const { name } of graph.output) blockTensor(name, 'they are the size of a model output')
  for (const node of graph.node) {
    if (exclude.has(labelOf(node))) for (const name of node.input) if (index.initializer(name)) blockTensor(name, 'excluded by the recipe')
    if (!RESHAPES.has(node.opType)) couple(node, facts, coordinates, blockTensor)
  }
  for (const node of graph.node) {
    if (!RESHAPES.has(node.opType) || !isStandard(node)) continue
    const links = reshapeLinks(node, facts, coordinates)
    const reason = `${labelOf(node)} (${node.opType}) mixes axes`
    const linked = new Set(links.flatMap(({ a, b }) => [keyOf(a), keyOf(b)]))
    for (const link of links) coordinates.link(link, reason)
    blockOthers([node.input[0] ?? '', ...node.output], { linked, coordinates, shapes, reason })
  }
  const weights = new Set(graph.initializer.filter(({ dims, dataType }) => dims.length > 1 && FLOATS.has(dataType)).map(({ name }) => name))
  return { groups: grouped(coordinates, weights), coordinates, facts, weights }
}

function couple(node: NodeProto, facts: Facts, coordinates: Coordinates, blockTensor: (tensor: string, reason: string) => void): void {
  const used = [...usedTensors(node), ...node.output]
  const rule = isStandard(node) ? rules[node.opType] : undefined
  const coupling = rule?.(node, facts) ?? 'no rule for this operator'
  if (typeof coupling === 'string') {
    for (const tensor of used) blockTensor(tensor, `${labelOf(node)} (${node.opType}): ${coupling}`)
    return
  }
  const reason = `${labelOf(node)} (${node.opType}) needs all of them`
  for (const link of coupling.links) coordinates.link(link, reason)
  const linked = new Set([...coupling.links.flatMap(({ a, b }) => [a, b]), ...(coupling.free ?? [])].map(keyOf))
  blockOthers(used, { linked, coordinates, shapes: facts.shapes, reason })
}

function isStandard({ domain }: NodeProto): boolean {
  return domain === '' || domain === 'ai.onnx'
}

function blockOthers(
  tensors: readonly string[],
  { linked, coordinates, shapes, reason }: { linked: ReadonlySet<string>; coordinates: Coordinates; shapes: Shapes; reason: string },
): void {
  for (const tensor of tensors) {
    for (let axis = 0; axis < (shapes.of(tensor)?.[0]?.length ?? 0); axis++)
      if (!linked.has(keyOf({ tensor, axis }))) coordinates.block({ tensor, axis }, reason)
  }
}

/** Classes that may be removed and whose removal makes a weight smaller, put together by the axes they span. */
function grouped(coordinates: Coordinates, weights: ReadonlySet<string>): Group[] {
  const spans = new Map<number, Map<AxisRef, number[]>>()
  for (const axis of coordinates.axes) {
    coordinates.classesOf(axis).forEach((root, i) => {
      if (coordinates.blockedBy(root) !== undefined) return
      const span = spans.get(root) ?? new Map<AxisRef, number[]>()
      spans.set(root, span)
      const indices = span.get(axis)
      if (indices) indices.push(i)
      else span.set(axis, [i])
    })
  }
  const bySpan = new Map<string, Group>()
  for (const [root, span] of spans) {
    const axes = [...span.keys()]
    if (!axes.some(({ tensor }) => weights.has(tensor))) continue
    const key = axes.map(keyOf).join('\n')
    const group = bySpan.get(key) ?? { units: [], members: axes.map((axis) => ({ ...axis, indices: [] })) }
    bySpan.set(key, group)
    group.units.push(root)
    axes.forEach((axis, position) => (group.members[position] as Member).indices.push(span.get(axis) as number[]))
  }
  return [...bySpan.values()]
}
