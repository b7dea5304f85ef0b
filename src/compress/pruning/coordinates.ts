// Coordinates: the single indices along the axes of tensors, and which of them live and die together. A class of
// coordinates is one thing that can be removed: a channel, a head, with all that belongs to it everywhere.
import type { Shapes } from './shapes.js'

export interface AxisRef {
  tensor: string
  axis: number
}

/** `count` pairs of coordinates that are removed together: index i of the pair `at(i)` along either axis. */
export interface Link {
  a: AxisRef
  b: AxisRef
  count: number
  at(i: number): readonly [number, number]
}

export class Coordinates {
  readonly axes: AxisRef[] = []
  readonly #shapes: Shapes
  /** First coordinate of each axis, by tensor and axis; axes whose size varies, or of size 1, have none. */
  readonly #first = new Map<string, number>()
  readonly #size: number[] = []
  readonly #parent: number[] = []
  readonly #blocked = new Map<number, string>()

  constructor(shapes: Shapes, tensors: Iterable<string>) {
    this.#shapes = shapes
    for (const tensor of tensors) {
      const rank = shapes.of(tensor)?.[0]?.length ?? 0
      for (let axis = 0; axis < rank; axis++) {
        const size = shapes.period(tensor, axis) ?? 0
        if (size < 2 || !Number.isInteger(size)) continue
        this.axes.push({ tensor, axis })
        this.#first.set(keyOf({ tensor, axis }), this.#parent.length)
        this.#size.push(size)
        for (let i = 0; i < size; i++) this.#parent.push(this.#parent.length)
      }
    }
  }

  has(ref: AxisRef): boolean {
    return this.#first.has(keyOf(ref))
  }

  /** The class of index `i` of an axis that has coordinates. */
  classOf(ref: AxisRef, i: number): number {
    return this.#find((this.#first.get(keyOf(ref)) as number) + i)
  }

  classesOf(ref: AxisRef): number[] {
    return this.has(ref) ? Array.from({ length: this.#shapes.period(ref.tensor, ref.axis) as number }, (_, i) => this.classOf(ref, i)) : []
  }

  /** Why a class stays, if it must. */
  blockedBy(root: number): string | undefined {
    return this.#blocked.get(root)
  }

  /** Whether all indices of an axis must stay; so it is for axes without coordinates. */
  isBlocked(ref: AxisRef): boolean {
    return this.classesOf(ref).every((root) => this.#blocked.has(root))
  }

  block(ref: AxisRef, reason: string): void {
    for (const root of this.classesOf(ref)) if (!this.#blocked.has(root)) this.#blocked.set(root, reason)
  }

  /** Where one side has no coordinates, its size cannot change, and the other's must not either. */
  link({ a, b, count, at }: Link, reason: string): void {
    const [first, second] = [this.#first.get(keyOf(a)), this.#first.get(keyOf(b))]
    for (let i = 0; i < count; i++) {
      const [p, q] = at(i)
      if (first !== undefined && second !== undefined) this.#union(first + p, second + q)
      else if (first !== undefined) this.#blockOne(first + p, reason)
      else if (second !== undefined) this.#blockOne(second + q, reason)
    }
  }

  #blockOne(coordinate: number, reason: string): void {
    const root = this.#find(coordinate)
    if (!this.#blocked.has(root)) this.#blocked.set(root, reason)
  }

  #find(coordinate: number): number {
    let root = coordinate
    while (this.#parent[root] !== root) root = this.#parent[root] as number
    for (let at = coordinate; at !== root; ) {
      const next = this.#parent[at] as number
      this.#parent[at] = root
      at = next
    }
    return root
  }

  #union(a: number, b: number): void {
    const [p, q] = [this.#find(a), this.#find(b)]
    if (p === q) return
    const [low, high] = p < q ? [p, q] : [q, p]
    this.#parent[high] = low
    const reason = this.#blocked.get(low) ?? this.#blocked.get(high)
    this.#blocked.delete(high)
    if (reason !== undefined) this.#blocked.set(low, reason)
  }
}

export function keyOf({ tensor, axis }: AxisRef): string {
  return `${axis} ${tensor}`
}

/** Index i of `a` is index i of `b`. */
export function identity(a: AxisRef, b: AxisRef, count: number): Link {
  return { a, b, count, at: (i) => [i, i] }
}

/** Index i of `part` is index offset + i of `whole`. */
export function offset(part: AxisRef, whole: AxisRef, count: number, by: number): Link {
  return { a: part, b: whole, count, at: (i) => [i, by + i] }
}

/** Each index of `a` stands for `times` consecutive indices of `b`. */
export function repeat(a: AxisRef, b: AxisRef, count: number, times: number): Link {
  return { a, b, count: count * times, at: (i) => [Math.floor(i / times), i] }
}

/** `axis` is `groups` equal groups that keep the same indices: index i of each is index i of `one`. */
export function grouped(axis: AxisRef, one: AxisRef, groups: number, perGroup: number): Link {
  return { a: axis, b: one, count: groups * perGroup, at: (i) => [i, i % perGroup] }
}

/** Index i along a factor of size `size`, within blocks of `inner`, is all indices of `whole` that have it there. */
export function factor(whole: AxisRef, part: AxisRef, { total, size, inner }: { total: number; size: number; inner: number }): Link {
  return { a: whole, b: part, count: total, at: (i) => [i, Math.floor(i / inner) % size] }
}
