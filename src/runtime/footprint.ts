// How much memory a model adds to a process, and how long it takes to load: measured in a fresh
// process, because one that has loaded and released other models tells nothing about the next.
import { FlyweightError } from '../errors.js'
import type { Tensor } from '../tensor/tensor.js'
import { startChild } from './supervised-child.js'

export interface FootprintOptions {
  file: string
  /** A batch of the largest size that will be served: working memory grows with it. */
  feeds: Readonly<Record<string, Tensor>>
  device?: string
  threads?: number
  timeoutMs?: number
  memoryBytes?: number
}

export interface Footprint {
  /** Growth of the resident set by load and two runs. */
  residentBytes: number
  loadMs: number
}

export type FootprintTask = Required<Pick<FootprintOptions, 'file' | 'feeds' | 'device' | 'threads'>>
export type FootprintMessage = { footprint: Footprint } | { error: string }

/** @throws FlyweightError `invalid_model` when the model cannot be loaded and run, or its process crashes. */
export async function measureFootprint(options: FootprintOptions): Promise<Footprint> {
  const { file, feeds, device = 'cpu', threads = 1, timeoutMs = 120_000, memoryBytes = 8 * 2 ** 30 } = options
  let message: FootprintMessage | undefined
  const child = startChild({
    entry: new URL('./footprint-process.js', import.meta.url),
    message: { file, feeds, device, threads } satisfies FootprintTask,
    memoryBytes,
    timeoutMs,
    onMessage: (received) => {
      message = received as FootprintMessage
    },
  })
  const end = await child.ended
  if (message === undefined) throw new FlyweightError('invalid_model', `the process that measured the model ${end.description}`)
  if ('error' in message) throw new FlyweightError('invalid_model', `the model could not be measured: ${message.error}`)
  return message.footprint
}
