// One run of a pipeline: the rows of its micro-batches, and its outputs as they come in. Settled once.
import { FlyweightError } from '../errors.js'
import type { LaneRun } from '../runtime/lane.js'
import { isPooled } from '../tensor/buffer-pool.js'
import type { Tensor } from '../tensor/tensor.js'
import { cutRows, microBatches, placeRows, sharedRows, type Rows } from './micro-batches.js'
import type { Route } from './routes.js'
import { buffersOf, type ValueMemory } from './value-memory.js'

type Feeds = Readonly<Record<string, Tensor>>

export interface RunOptions {
  feeds: Feeds
  route: Route
  /** Inputs of the whole. */
  inputs: readonly string[]
  batchable: boolean
  /** Rows of a micro-batch at most. */
  microBatch: number
  memory: ValueMemory
}

export class PipelineRun {
  readonly route: Route
  readonly result: Promise<LaneRun>
  readonly #feeds: Feeds
  /** Inputs that are read. */
  readonly #inputs: readonly string[]
  readonly #rows: number
  readonly #waiting: Rows[]
  /** One micro-batch is all of it: its buffers move instead of being copied. */
  readonly #whole: boolean
  readonly #memory: ValueMemory
  /** Sizes of the caller's buffers that moved. */
  readonly #lent: number[] = []
  readonly #spent: ArrayBuffer[] = []
  #outputs: Record<string, Tensor> = {}
  #left: number
  #startedAt = 0
  #settled = false
  #resolve!: (run: LaneRun) => void
  #reject!: (error: FlyweightError) => void

  /** @throws FlyweightError `invalid_input` for feeds that are missing or differ in rows */
  constructor({ feeds, route, inputs, batchable, microBatch, memory }: RunOptions) {
    this.#inputs = inputs.filter((name) => route.reads.has(name))
    const absent = this.#inputs.find((name) => feeds[name] === undefined)
    if (absent !== undefined) throw new FlyweightError('invalid_input', `input "${absent}" is missing, expected all of ${inputs.join(', ')}`)
    this.route = route
    this.#feeds = feeds
    this.#memory = memory
    this.#rows = batchable ? sharedRows(feeds, this.#inputs) : 1
    this.#waiting = microBatches(this.#rows, batchable ? microBatch : 1)
    this.#left = this.#waiting.length
    this.#whole = this.#left === 1
    this.result = new Promise((resolve, reject) => {
      this.#resolve = resolve
      this.#reject = reject
    })
  }

  /** Its outputs are there, or it failed. */
  get settled(): boolean {
    return this.#settled
  }

  /** Micro-batches that are not under way yet. */
  get waiting(): number {
    return this.#waiting.length
  }

  /** The next micro-batch, and what of the inputs is its own. */
  next(): { part: Rows; values: [string, Tensor][] } | undefined {
    const part = this.#waiting.shift()
    if (part === undefined) return undefined
    this.#startedAt ||= performance.now()
    const own = (tensor: Tensor) => (this.#whole ? tensor : cutRows(tensor, part, (bytes) => this.#memory.take(bytes) ?? new ArrayBuffer(bytes)))
    const values = this.#inputs.map((name): [string, Tensor] => [name, own(this.#feeds[name] as Tensor)])
    if (this.#whole) this.#lent.push(...lastingBuffers(this.#feeds).map(({ byteLength }) => byteLength))
    else if (this.#waiting.length === 0) this.#spent.push(...lastingBuffers(this.#feeds))
    return { part, values }
  }

  /**
   * Takes the outputs of one micro-batch; the last one's settle the run.
   * @throws FlyweightError `inference_failed` for outputs whose rows are not those of the micro-batch
   */
  collect(part: Rows, outputs: Record<string, Tensor>): void {
    if (this.#whole) this.#outputs = outputs
    else {
      placeRows(this.#outputs, outputs, { ...part, of: this.#rows })
      this.#memory.give(buffersOf(outputs))
    }
    this.#left -= 1
    if (this.#left > 0) return
    this.#settled = true
    this.#resolve({ outputs: this.#outputs, runMs: performance.now() - this.#startedAt, spent: this.#spent })
  }

  fail(error: FlyweightError): void {
    this.#settled = true
    this.#waiting.length = 0
    this.#reject(error)
  }

  /** Memory that comes back from a stage: the caller's is kept for him, all other is used again. */
  recycle(spent: readonly ArrayBuffer[]): void {
    const lent = spent.filter(({ byteLength }) => {
      const at = this.#lent.indexOf(byteLength)
      if (at !== -1) this.#lent.splice(at, 1)
      return at !== -1
    })
    this.#spent.push(...lent)
    this.#memory.give(spent.filter((buffer) => !lent.includes(buffer)))
  }
}

/** Buffers that the caller will want back. */
function lastingBuffers(feeds: Feeds): ArrayBuffer[] {
  return buffersOf(feeds).filter(({ byteLength }) => isPooled(byteLength))
}
