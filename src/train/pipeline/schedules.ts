// In which order a stage takes the forward and backward passes of a step's micro-batches. Pure: who runs them, and when
// what they read is there, is the executor's business. Both orders end with all gradients of one set of weights.

export interface Pass {
  pass: 'forward' | 'backward'
  /** Index of the micro-batch. */
  micro: number
}

/** One order a stage, the first stage first. */
type Schedule = (stages: number, microBatches: number) => Pass[][]

/**
 * All forward passes, then all backward passes: every micro-batch is in flight at once. Huang et al., "GPipe: Efficient
 * Training of Giant Neural Networks using Pipeline Parallelism" (2019), arXiv 1811.06965.
 */
const gpipe: Schedule = (stages, microBatches) =>
  Array.from({ length: stages }, () => [...passes('forward', 0, microBatches), ...passes('backward', 0, microBatches)])

/**
 * A backward pass as soon as there is one, so that stage s of S holds S − s micro-batches at most; as long as GPipe.
 * PipeDream-Flush: Narayanan et al., "Memory-Efficient Pipeline-Parallel DNN Training" (2021), arXiv 2006.09503.
 */
const oneForwardOneBackward: Schedule = (stages, microBatches) =>
  Array.from({ length: stages }, (_, stage) => {
    const ahead = Math.min(stages - stage - 1, microBatches)
    const steady = passes('forward', ahead, microBatches).flatMap((forward, done) => [forward, { pass: 'backward', micro: done } as const])
    return [...passes('forward', 0, ahead), ...steady, ...passes('backward', microBatches - ahead, microBatches)]
  })

export const schedules = { gpipe, '1f1b': oneForwardOneBackward } satisfies Record<string, Schedule>

export type ScheduleName = keyof typeof schedules

function passes(pass: Pass['pass'], from: number, to: number): Pass[] {
  return Array.from({ length: to - from }, (_, index) => ({ pass, micro: from + index }))
}
