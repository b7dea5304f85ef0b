// Ranks of one process add up vectors in memory that all of them share: each adds up its part of the elements and reads
// the rest, a reduce-scatter and an all-gather. Nothing is sent and no memory is new, either of which takes several times
// as long as the sums themselves. A rank that waits blocks its thread.
import type { Exchange } from './exchange.js'
import type { Seat, Vector } from './messages.js'
import { shardsOf } from './shards.js'
import type { SpareVectors } from './spare-vectors.js'
import { addTo } from './sums.js'

type Shared = Float32Array<SharedArrayBuffer>

/** What can be on its way at once: gradients in 64 buckets, statistics, and parameters in shards. */
const PLACES = 66
const GATHERED = PLACES - 1
/** Of each place, how many vectors have come to it and how many sums were made, ever; then whether the board is closed. */
const [COME, MADE, CLOSED] = [0, PLACES, 2 * PLACES]
const CONTROL_BYTES = 1024

/** @param floats elements of all vectors that are on their way at once */
export function boardMemory(members: number, floats: number): SharedArrayBuffer {
  // What each member gives, and the sums.
  return new SharedArrayBuffer(CONTROL_BYTES + 4 * floats * (members + 1))
}

/** For a round that was abandoned: who waits at the board, or comes to, is told so. */
export function closeBoard(memory: SharedArrayBuffer): void {
  const control = new Int32Array(memory, 0, CONTROL_BYTES / 4)
  Atomics.store(control, CLOSED, 1)
  for (let counter = 0; counter < CLOSED; counter++) {
    // Another value, so that nobody falls asleep who has just read the former.
    Atomics.store(control, counter, -1)
    Atomics.notify(control, counter)
  }
}

/**
 * To be kept as long as the board is, as it counts how often it was used. Places need no locks: a rank gives again only
 * after it has taken, and takes only after all have given, so that nobody is still reading what it writes over.
 */
export function sharedExchange({ memory, members, member }: Seat, spares: SpareVectors): Exchange {
  const control = new Int32Array(memory, 0, CONTROL_BYTES / 4)
  const floats = (memory.byteLength - CONTROL_BYTES) / 4 / (members + 1)
  const areas = Array.from({ length: members + 1 }, (_, index): Shared => new Float32Array(memory, CONTROL_BYTES + 4 * floats * index, floats))
  const sums = areas[members] as Shared
  const uses = new Map<number, number>()
  /** What this rank gave, and where in an area that is. */
  const given = new Map<number, { vector: Vector; offset: number }>()
  let used = 0

  const arrive = (counter: number) => {
    Atomics.add(control, counter, 1)
    Atomics.notify(control, counter)
  }
  const allAt = (counter: number, use: number) => {
    for (;;) {
      const there = Atomics.load(control, counter)
      if (Atomics.load(control, CLOSED) === 1) throw new Error('the round was abandoned')
      if (there >= use * members) return
      Atomics.wait(control, counter, there)
    }
  }
  const use = (place: number): number => {
    const count = (uses.get(place) ?? 0) + 1
    uses.set(place, count)
    return count
  }

  return {
    give: ({ bucket }, vector) => {
      // Buckets have the same sizes in every step, so that each has the same offset.
      if (bucket === 0) used = 0
      given.set(bucket, { vector, offset: used })
      const own = areas[member] as Shared
      for (const [other, { offset, count }] of shardsOf(vector.length, members).entries()) {
        if (other !== member) own.set(vector.subarray(offset, offset + count), used + offset)
      }
      used += vector.length
      arrive(COME + bucket)
    },
    take: async ({ bucket }) => {
      const { vector, offset: begin } = given.get(bucket) as { vector: Vector; offset: number }
      const [count, shards] = [use(bucket), shardsOf(vector.length, members)]
      allAt(COME + bucket, count)
      const mine = shards[member]
      if (mine !== undefined) {
        const [from, to] = [begin + mine.offset, begin + mine.offset + mine.count]
        const own = vector.subarray(mine.offset, mine.offset + mine.count)
        const sum = sums.subarray(from, to)
        for (let index = 0; index < members; index++) {
          const part = index === member ? own : (areas[index] as Shared).subarray(from, to)
          if (index === 0) sum.set(part)
          else addTo(sum, part)
        }
        own.set(sum)
      }
      arrive(MADE + bucket)
      allAt(MADE + bucket, count)
      for (const [index, shard] of shards.entries()) {
        if (index !== member) vector.set(sums.subarray(begin + shard.offset, begin + shard.offset + shard.count), shard.offset)
      }
      return vector
    },
    gather: async (_, slice, { shard, count }) => {
      // Behind what sums take: they are over, but not yet read by all.
      const begin = floats - count
      sums.set(slice, begin + shard.offset)
      spares.give(slice)
      arrive(COME + GATHERED)
      allAt(COME + GATHERED, use(GATHERED))
      const whole = spares.take(count)
      whole.set(sums.subarray(begin, begin + count))
      return whole
    },
  }
}
