// How an axis of a tensor is shared out to devices, and what that means across reshapes. Pure.

/**
 * The axis runs over outer × units × inner elements, and each part gets some of the units: of a fused projection to
 * queries, keys and values of 12 heads, outer is 3, units 12, and inner the size of a head. `outer` and `inner` have
 * one entry a feed set observed, since a batch may be merged into an axis.
 */
export interface AxisSplit {
  axis: number
  outer: readonly number[]
  units: number
  inner: readonly number[]
}

/** A range [from, to) of a split's units, which one part has. */
export interface UnitRange {
  from: number
  to: number
}

/** The whole axis in `units` pieces, one after the other. `sets` counts the feed sets observed. */
export function evenSplit(axis: number, size: number, units: number, sets: number): AxisSplit {
  return { axis, outer: new Array<number>(sets).fill(1), units, inner: new Array<number>(sets).fill(size / units) }
}

export function sameSplit(one: AxisSplit, other: AxisSplit): boolean {
  const same = (a: readonly number[], b: readonly number[]) => a.every((size, set) => size === b[set])
  return one.axis === other.axis && one.units === other.units && same(one.outer, other.outer) && same(one.inner, other.inner)
}

/** Outer and inner size where no feed set changed them; undefined otherwise. */
export function fixedSizes({ outer, inner }: AxisSplit): { outer: number; inner: number } | undefined {
  const same = (sizes: readonly number[]) => sizes.every((size) => size === sizes[0])
  return same(outer) && same(inner) ? { outer: outer[0] as number, inner: inner[0] as number } : undefined
}

/** Whether the split covers the axis in every feed set. `dims` has one shape a feed set. */
export function covers({ axis, outer, units, inner }: AxisSplit, dims: readonly (readonly number[])[]): boolean {
  return dims.every((sizes, set) => sizes[axis] === (outer[set] as number) * units * (inner[set] as number))
}

/** Units finer than these are not told apart: kernels like whole vectors. */
const VECTOR = 16

/**
 * Contiguous ranges of units by the devices' speeds, in order; fewer than devices where there are fewer units. What does
 * not divide goes to other devices for another `turn`.
 */
export function shareUnits(units: number, speeds: readonly number[], turn = 0): UnitRange[] {
  const grain = units % VECTOR === 0 && units / VECTOR >= speeds.length ? VECTOR : 1
  const pieces = units / grain
  const used = speeds.slice(0, pieces)
  const total = used.reduce((sum, speed) => sum + speed, 0)
  // Each part gets one piece; those left go out by largest remainders.
  const exact = used.map((speed) => ((pieces - used.length) * speed) / total)
  const counts = exact.map((count) => 1 + Math.floor(count))
  const left = pieces - counts.reduce((sum, count) => sum + count, 0)
  const after = (part: number) => (part + turn * left) % used.length
  const byRemainder = [...exact.keys()].sort((a, b) => (exact[b]! % 1) - (exact[a]! % 1) || after(a) - after(b))
  for (const part of byRemainder.slice(0, left)) counts[part]! += 1
  const ranges: UnitRange[] = []
  for (const count of counts) {
    const from = ranges.at(-1)?.to ?? 0
    ranges.push({ from, to: from + count * grain })
  }
  return ranges
}

/**
 * The split of what a reshape reads, given that of what it writes; the number of units where only fewer, larger ones
 * pass it; undefined where none do. Elements keep their order, so axes are matched by their products.
 */
export function throughReshape(
  split: AxisSplit,
  { from, to }: Record<'from' | 'to', readonly (readonly number[])[]>,
): AxisSplit | { units: number } | undefined {
  const found = to.map((sizes, set) => {
    const { axis, outer, units, inner } = split
    return onAxis({ axis, outer: outer[set] as number, units, inner: inner[set] as number }, from[set] as readonly number[], sizes)
  })
  const first = found[0]
  if (first === undefined || found.some((each) => each?.axis !== first.axis || each.units !== first.units)) return undefined
  if (first.units < split.units) return { units: first.units }
  return { axis: first.axis, outer: found.map((each) => each!.outer), units: first.units, inner: found.map((each) => each!.inner) }
}

interface Piece {
  axis: number
  outer: number
  units: number
  inner: number
}

function onAxis({ axis, outer, units, inner }: Piece, from: readonly number[], to: readonly number[]): Piece | undefined {
  const group = matchedAxes(from, to).find(({ toStart, toEnd }) => toStart <= axis && axis < toEnd)
  if (group === undefined) return undefined
  const before = outer * product(to.slice(group.toStart, axis))
  const after = inner * product(to.slice(axis + 1, group.toEnd))
  let best: Piece | undefined
  for (let at = group.fromStart; at < group.fromEnd; at++) {
    const [prefix, suffix] = [product(from.slice(group.fromStart, at)), product(from.slice(at + 1, group.fromEnd))]
    const joined = suffix / gcd(after, suffix)
    if (before % prefix !== 0 || units % joined !== 0) continue
    const piece = { axis: at, outer: before / prefix, units: units / joined, inner: (after * joined) / suffix }
    if (piece.outer * piece.units * piece.inner === from[at] && piece.units > (best?.units ?? 1)) best = piece
  }
  return best
}

/** Shortest runs of axes of equal products, in order. */
function matchedAxes(from: readonly number[], to: readonly number[]): { fromStart: number; fromEnd: number; toStart: number; toEnd: number }[] {
  const groups = []
  let [i, o] = [0, 0]
  while (i < from.length || o < to.length) {
    const [fromStart, toStart] = [i, o]
    let [read, written] = [from[i++] ?? 1, to[o++] ?? 1]
    while (read !== written) {
      if (read < written && i < from.length) read *= from[i++] as number
      else if (read > written && o < to.length) written *= to[o++] as number
      else return []
    }
    groups.push({ fromStart, fromEnd: Math.min(i, from.length), toStart, toEnd: Math.min(o, to.length) })
  }
  return groups
}

function product(sizes: readonly number[]): number {
  return sizes.reduce((total, size) => total * size, 1)
}

function gcd(a: number, b: number): number {
  return b === 0 ? a : gcd(b, a % b)
}
