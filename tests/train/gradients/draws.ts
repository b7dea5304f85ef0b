// Random choices for configurations of operators: the same for the same seed.
export function draws(seed: number) {
  let state = Math.imul(seed, 2654435761) >>> 0
  const next = (): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 32
  }
  for (let i = 0; i < 3; i++) next()
  /** A whole number between two, both included. */
  const int = (low: number, high: number): number => low + Math.floor(next() * (high - low + 1))
  return {
    int,
    pick: <T>(values: readonly T[]): T => values[int(0, values.length - 1)] as T,
    chance: (): boolean => next() < 0.5,
  }
}
