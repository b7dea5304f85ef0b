// Which axes of a Reshape's input and output belong together, read off the sizes that were observed: an axis that
// stays, one that is split into factors, or factors that are merged. One factor of a split or merge may lose
// indices (the channels of a flattened image, the heads of attention); the others stay.
import type { NodeProto } from '../../onnx/proto.js'
import { constantNumbers, type Facts } from './coupling.js'
import { factor, identity, type AxisRef, type Coordinates, type Link } from './coordinates.js'
import type { Shapes } from './shapes.js'

/** Operators whose output has the elements of their input in the same order. */
export const RESHAPES: ReadonlySet<string> = new Set(['Reshape', 'Flatten', 'Squeeze', 'Unsqueeze'])

/** The outermost factor that is free so far may lose indices: call in graph order, after all other rules. */
export function reshapeLinks(node: NodeProto, { shapes, index }: Facts, coordinates: Coordinates): Link[] {
  const [x = '', y = ''] = [node.input[0], node.output[0]]
  const links: Link[] = []
  for (const segment of segments(x, y, shapes)) {
    const [from, to] = [withoutBatch(segment.from, shapes), withoutBatch(segment.to, shapes)]
    const [period, other] = [periodOf(from[0], shapes), periodOf(to[0], shapes)]
    if (from[0] === undefined || to[0] === undefined || [...from.slice(1), ...to.slice(1)].some((axis) => varies(axis, shapes))) continue
    // The size of such an axis must follow by itself.
    if (varies(to[0], shapes) && node.opType === 'Reshape' && !isInferred(node, to[0].axis, { shapes, index })) continue
    if (from.length === 1 && to.length === 1) {
      if (period !== undefined && period === other) links.push(identity(from[0], to[0], period))
      continue
    }
    const [whole, parts] = from.length === 1 ? [from[0], to] : to.length === 1 ? [to[0], from] : []
    if (whole === undefined || parts === undefined) continue
    const sizes = parts.map((part) => periodOf(part, shapes))
    const total = periodOf(whole, shapes)
    if (total === undefined || sizes.includes(undefined)) continue
    const chosen = parts.findIndex((part) => !coordinates.isBlocked(part))
    if (chosen === -1) continue
    const inner = sizes.slice(chosen + 1).reduce<number>((product, size) => product * (size as number), 1)
    links.push(factor(whole, parts[chosen]!, { total, size: sizes[chosen] as number, inner }))
  }
  return links
}

function periodOf(ref: AxisRef | undefined, shapes: Shapes): number | undefined {
  return ref && shapes.period(ref.tensor, ref.axis)
}

function varies({ tensor, axis }: AxisRef, shapes: Shapes): boolean {
  return shapes.size(tensor, axis) === undefined
}

/** A batch dimension in front says nothing about the axes behind it, of which each row has its own. */
function withoutBatch(axes: readonly AxisRef[], shapes: Shapes): readonly AxisRef[] {
  const [first] = axes
  return first !== undefined && varies(first, shapes) && periodOf(first, shapes) === 1 ? axes.slice(1) : axes
}

/** Whether a size of a Reshape is −1; lists are often put together from parts. */
function isInferred(node: NodeProto, axis: number, { shapes, index }: Pick<Facts, 'shapes' | 'index'>): boolean {
  const list = node.input[1] ?? ''
  const values = constantNumbers(node, 1, index)
  if (values !== undefined) return values[axis] === -1
  const parts = index.producer(list)
  if (parts?.opType !== 'Concat') return false
  let at = 0
  for (const [position, part] of parts.input.entries()) {
    const length = shapes.of(part)?.[0]?.[0] ?? 1
    if (axis < at + length) return constantNumbers(parts, position, index)?.[axis - at] === -1
    at += length
  }
  return false
}

interface Segment {
  from: AxisRef[]
  to: AxisRef[]
}

/** Shortest runs of axes with as many elements on either side, in all feed sets; axes of size 1 are left out. */
function segments(x: string, y: string, shapes: Shapes): Segment[] {
  const [before, after] = [proper(x, shapes), proper(y, shapes)]
  const found: Segment[] = []
  let [i, j] = [0, 0]
  while (i < before.length && j < after.length) {
    const segment: Segment = { from: [before[i]!], to: [after[j]!] }
    for (;;) {
      const [p, q] = [products(segment.from, shapes), products(segment.to, shapes)]
      if (p.every((product, set) => product === q[set])) break
      const less = p.some((product, set) => product < (q[set] as number))
      const more = p.some((product, set) => product > (q[set] as number))
      if (less) {
        if (++i >= before.length) return found
        segment.from.push(before[i]!)
      }
      if (more) {
        if (++j >= after.length) return found
        segment.to.push(after[j]!)
      }
    }
    found.push(segment)
    i++
    j++
  }
  return found
}

function proper(tensor: string, shapes: Shapes): AxisRef[] {
  const rank = shapes.of(tensor)?.[0]?.length ?? 0
  return Array.from({ length: rank }, (_, axis) => ({ tensor, axis })).filter(({ axis }) => shapes.size(tensor, axis) !== 1)
}

function products(axes: readonly AxisRef[], shapes: Shapes): number[] {
  const sets = shapes.of(axes[0]!.tensor) ?? []
  return sets.map((dims) => axes.reduce((product, { axis }) => product * (dims[axis] as number), 1))
}
