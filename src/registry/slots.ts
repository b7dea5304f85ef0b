// A bound on how many pieces of work run at once. Those that wait go in order of arrival, except that
// one which somebody needs now may be preferred.

export interface Slots {
  /** Runs `work` when a slot is free; `key` is what prefer() knows it by. */
  take<Result>(key: string, work: () => Promise<Result>): Promise<Result>
  /** Moves what waits under `key` to the front. */
  prefer(key: string): void
}

export function createSlots(count: number): Slots {
  let free = count
  // Insertion order is the queue: Map.delete keeps both ends cheap however many wait.
  const waiting = new Map<symbol, { key: string; begin: () => void }>()
  const preferred: string[] = []
  const next = () => {
    while (preferred.length > 0) {
      const key = preferred.shift()
      for (const [id, entry] of waiting) if (entry.key === key) return waiting.delete(id) && entry.begin()
    }
    const [first] = waiting
    if (!first) return (free += 1)
    waiting.delete(first[0])
    return first[1].begin()
  }
  return {
    take: async (key, work) => {
      if (free > 0) free -= 1
      else await new Promise<void>((begin) => waiting.set(Symbol(), { key, begin }))
      try {
        return await work()
      } finally {
        next()
      }
    },
    prefer: (key) => {
      if (!preferred.includes(key)) preferred.push(key)
    },
  }
}
