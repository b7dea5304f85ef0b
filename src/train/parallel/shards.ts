// An optimizer's state in shards, one a rank: ZeRO's first stage, Rajbhandari et al., "ZeRO: Memory Optimizations Toward
// Training Trillion Parameter Models" (2020), arXiv 1910.02054.
import type { Shard } from '../step.js'
import type { TrainState } from '../step-engine.js'
import type { Vector } from './messages.js'

type Vectors = TrainState['vectors']

/** Consecutive shards of a vector that differ by one element at most; no more than there are elements. */
export function shardsOf(count: number, ranks: number): Shard[] {
  const parts = Math.min(count, ranks)
  const edge = (part: number) => Math.floor((part * count) / parts)
  return Array.from({ length: parts }, (_, part) => ({ offset: edge(part), count: edge(part + 1) - edge(part) }))
}

/** A shard's elements of slots, in memory of their own. */
export function cutSlots(vectors: Vectors, slots: readonly string[], { offset, count }: Shard): Vectors {
  return Object.fromEntries(slots.map((slot) => [slot, (vectors[slot] as Vector).slice(offset, offset + count)]))
}

/** Whole slots from those of all shards, in order. */
export function joinSlots(shards: readonly Vectors[], slots: readonly string[]): Vectors {
  return Object.fromEntries(slots.map((slot) => [slot, concatenated(shards.map((vectors) => vectors[slot] as Vector))]))
}

export function concatenated(vectors: readonly Vector[]): Vector {
  const whole = new Float32Array(vectors.reduce((sum, { length }) => sum + length, 0))
  let offset = 0
  for (const vector of vectors) {
    whole.set(vector, offset)
    offset += vector.length
  }
  return whole
}
