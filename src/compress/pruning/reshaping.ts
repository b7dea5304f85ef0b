// Which axes of a Reshape's input and output belong together, read off the sizes that were observed: an axis that
// stays, one that is split into factors, or factors that are merged. One factor of a split or merge may lose
// indices (the channels of a flattened image, the heads of attention); the others stay.
import type { NodeProto } from '../../onnx/proto.js'
import { factor, identity, type AxisRef, type Coordinates, type Link } from './coordinates.js'
import type { Shapes } from './shapes.js'

/** Operators whose output has the elements of their input in the same order. */
export const RESHAPES: ReadonlySet<string> = new Set(['Reshape', 'Flatten', 'Squeeze', 'Unsqueeze'])

/** The outermost factor that is free so far may lose indices: call in graph order, after all other rules. */
export function reshapeLinks({ input: [x = ''], output: [y = ''] }: NodeProto, shapes: Shapes, coordinates: Coordinates): Link[] {
  const links: Link[] = []
  for (const { from, to } of segments(x, y, shapes)) {
    if (from.length === 1 && to.length === 1) {
      const size = shapes.period(from[0]!.tensor, from[0]!.axis)
      if (size !== undefined && size === shapes.period(to[0]!.tensor, to[0]!.axis)) links.push(identity(from[0]!, to[0]!, size))
      continue
    }
    const [whole, parts] = from.length === 1 ? [from[0], to] : to.length === 1 ? [to[0], from] : []
    if (whole === undefined || parts === undefined) continue
    const sizes = parts.map(({ tensor, axis }) => shapes.period(tensor, axis))
    const total = shapes.period(whole.tensor, whole.axis)
    if (total === undefined || sizes.includes(undefined)) continue
    const chosen = parts.findIndex((part) => !coordinates.isBlocked(part))
    if (chosen === -1) continue
    const inner = sizes.slice(chosen + 1).reduce<number>((product, size) => product * (size as number), 1)
    links.push(factor(whole, parts[chosen]!, { total, size: sizes[chosen] as number, inner }))
  }
  return links
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
