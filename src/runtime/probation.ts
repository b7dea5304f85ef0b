// Probation: a model nobody has run here before is decoded, checked, loaded and run in a process of
// its own, so that one which crashes, hangs or eats memory takes nothing down but that process.
import { FlyweightError, type ErrorCode } from '../errors.js'
import type { Signature } from '../onnx/summary.js'
import type { Tensor } from '../tensor/tensor.js'
import { startChild } from './supervised-child.js'

export interface InspectOptions {
  /** For everything: start, decoding, load and runs. Default 60 s. */
  timeoutMs?: number
  /** Resident bytes the process may grow to. Default 4 GiB. */
  memoryBytes?: number
  /** Real inputs to run with (at least one row); synthetic ones are tried otherwise. */
  samples?: Readonly<Record<string, Tensor>>
}

export interface Inspection {
  signature: Signature
  loadMs: number
  /** What loading and running it added to its process. */
  residentBytes: number
  /** What could not be proven, and why; empty when everything was. */
  notes: readonly string[]
}

/** What probation-process.ts is sent, and what it sends: where it has got to, then one verdict. */
export interface ProbationTask {
  file: string
  samples: Readonly<Record<string, Tensor>> | undefined
}
export type ProbationMessage = { phase: string } | { inspection: Inspection } | { error: { code: ErrorCode; detail: string } }

/** More at once would only make each slower, and memory limits add up. */
const CONCURRENCY = 2
let running = 0
const waiting: (() => void)[] = []

/**
 * Finds out what a model is by running it in a process of its own; at most two at a time, others wait.
 * @throws FlyweightError `invalid_model` saying what is wrong, or how the process that tried it ended.
 */
export async function inspectModel(file: string, options: InspectOptions = {}): Promise<Inspection> {
  if (running >= CONCURRENCY) await new Promise<void>((resolve) => waiting.push(resolve))
  else running++
  try {
    return await probe(file, options)
  } finally {
    const next = waiting.shift()
    if (next) next()
    else running--
  }
}

async function probe(file: string, { timeoutMs = 60_000, memoryBytes = 4 * 2 ** 30, samples }: InspectOptions): Promise<Inspection> {
  let phase = 'starting'
  let verdict: Exclude<ProbationMessage, { phase: string }> | undefined
  const child = startChild({
    entry: new URL('./probation-process.js', import.meta.url),
    message: { file, samples } satisfies ProbationTask,
    memoryBytes,
    timeoutMs,
    onMessage: (received) => {
      const message = received as ProbationMessage
      if ('phase' in message) phase = message.phase
      else verdict = message
    },
  })
  const end = await child.ended
  // A verdict stands even if the process then crashed while cleaning up, except one that it could not have meant.
  if (verdict === undefined) {
    throw new FlyweightError('invalid_model', `the model cannot be served: the process that tried it ${end.description} while ${phase}`)
  }
  if ('error' in verdict) throw new FlyweightError(verdict.error.code, verdict.error.detail)
  if (end.reason === 'crash') {
    throw new FlyweightError('invalid_model', `the model cannot be served: the process that tried it ${end.description} after running it`)
  }
  return verdict.inspection
}
