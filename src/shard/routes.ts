// The way of a micro-batch through the stages: which ones it needs for the outputs wanted, what each waits for, and
// who reads what. Pure.
import { FlyweightError } from '../errors.js'

export interface StageIo {
  /** What it reads: inputs of the whole, and outputs of stages before it. */
  inputs: readonly string[]
  outputs: readonly string[]
}

export interface Route {
  /** What a run answers. */
  outputs: readonly string[]
  /** Those needed, by their index; `fetches` is undefined where all of a stage's outputs are read. */
  stages: ReadonlyMap<number, { fetches: readonly string[] | undefined }>
  /** Value → stages of the route that read it. */
  readers: ReadonlyMap<string, readonly number[]>
  /** Value → how often it is read, by stages and as an output. */
  reads: ReadonlyMap<string, number>
}

/**
 * @param io what the whole takes and gives
 * @throws FlyweightError `invalid_input` for an output that does not exist, `invalid_plan` for a value that no stage gives before it is read
 */
export function routeOf(stages: readonly StageIo[], io: StageIo, fetches: readonly string[] = io.outputs): Route {
  const unknown = fetches.find((name) => !io.outputs.includes(name))
  if (unknown !== undefined) throw new FlyweightError('invalid_input', `output "${unknown}" does not exist, expected one of ${io.outputs.join(', ')}`)
  const wanted = new Set(fetches)
  const needed = new Map<number, { fetches: readonly string[] | undefined }>()
  const readers = new Map<string, number[]>()
  for (let stage = stages.length - 1; stage >= 0; stage--) {
    const { inputs, outputs } = stages[stage]!
    const read = outputs.filter((name) => wanted.has(name))
    if (read.length === 0) continue
    needed.set(stage, { fetches: read.length === outputs.length ? undefined : read })
    for (const name of read) wanted.delete(name)
    for (const name of inputs) {
      wanted.add(name)
      readers.set(name, [stage, ...(readers.get(name) ?? [])])
    }
  }
  const missing = [...wanted].find((name) => !io.inputs.includes(name))
  if (missing !== undefined) throw new FlyweightError('invalid_plan', `"${missing}" is read, but neither an input nor what a stage gives before`)
  const outputs = [...new Set(fetches)]
  const reads = new Map([...readers].map(([name, { length }]) => [name, length]))
  for (const name of outputs) reads.set(name, (reads.get(name) ?? 0) + 1)
  return { outputs, stages: new Map([...needed].reverse()), readers, reads }
}
