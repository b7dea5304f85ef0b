// What a rule of an operator says and knows: which axes of its inputs and outputs must keep the same indices, and the
// sizes and constants it can read that from. The rules are rules.ts's and weighted-rules.ts's.
import { intAttribute } from '../../onnx/attributes.js'
import type { GraphIndex } from '../../onnx/graph.js'
import type { NodeProto } from '../../onnx/proto.js'
import { identity, type AxisRef, type Link } from './coordinates.js'
import type { Shapes } from './shapes.js'

export interface Facts {
  shapes: Shapes
  index: GraphIndex
  /** Whether channels may go over which LayerNormalization takes its mean. */
  normalized: boolean
}

export interface Coupling {
  links: Link[]
  /** Axes that may lose indices without anything else losing any. */
  free?: AxisRef[]
}

/** The coupling, or why the operator lets nothing be removed. */
export type Rule = (node: NodeProto, facts: Facts) => Coupling | string

/** Numbers of a constant integer input; undefined when it is computed or absent. */
export function constantNumbers(node: NodeProto, position: number, index: GraphIndex): number[] | undefined {
  const name = node.input[position]
  const tensor = name === undefined || name === '' ? undefined : index.constant(name)
  return tensor === undefined ? undefined : Array.from(tensor.data as ArrayLike<number | bigint>, Number)
}

export function rankOf(tensor: string | undefined, shapes: Shapes): number {
  return (tensor === undefined ? undefined : shapes.of(tensor)?.[0]?.length) ?? 0
}

export function axisOf(node: NodeProto, rank: number, fallback: number): number {
  const axis = intAttribute(node, 'axis', fallback)
  return axis < 0 ? axis + rank : axis
}

export function ref(tensor: string | undefined, axis: number): AxisRef {
  return { tensor: tensor ?? '', axis }
}

export function sizeOf({ tensor, axis }: AxisRef, shapes: Shapes): number {
  return shapes.size(tensor, axis) ?? shapes.of(tensor)?.[0]?.[axis] ?? 0
}

/** The same indices along both axes; nothing where either is not the size of the other. */
export function same(a: AxisRef, b: AxisRef, shapes: Shapes): Link[] {
  const [p, q] = [shapes.period(a.tensor, a.axis), shapes.period(b.tensor, b.axis)]
  return p !== undefined && p === q ? [identity(a, b, p)] : []
}

export function allAxes(from: string | undefined, to: string | undefined, shapes: Shapes, except: (axis: number) => boolean = () => false): Link[] {
  return Array.from({ length: rankOf(from, shapes) }, (_, axis) => axis).flatMap((axis) => (except(axis) ? [] : same(ref(from, axis), ref(to, axis), shapes)))
}

export interface SlicedAxis {
  axis: number
  start: number
  step: number
  /** Position in the lists of starts, ends, axes and steps. */
  position: number
}

/** The axes that a Slice with constant bounds cuts; undefined when they are computed. */
export function slicedAxes(node: NodeProto, { shapes, index }: Facts): SlicedAxis[] | undefined {
  const rank = rankOf(node.input[0], shapes)
  const starts = constantNumbers(node, 1, index)
  const named = (node.input[3] ?? '') !== ''
  const axes = named ? constantNumbers(node, 3, index) : starts?.map((_, axis) => axis)
  const steps = (node.input[4] ?? '') === '' ? starts?.map(() => 1) : constantNumbers(node, 4, index)
  if (starts === undefined || axes === undefined || steps === undefined || constantNumbers(node, 2, index) === undefined) return undefined
  return axes.map((given, position) => {
    const axis = given < 0 ? given + rank : given
    const size = sizeOf(ref(node.input[0], axis), shapes)
    const start = starts[position] as number
    return { axis, start: Math.min(size, Math.max(0, start < 0 ? start + size : start)), step: steps[position] as number, position }
  })
}
