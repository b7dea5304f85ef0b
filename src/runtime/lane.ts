// A lane: one worker thread that owns the sessions loaded on it and runs one batch at a time. This
// side posts work and settles promises; which variants it holds and when is the caller's business.
import { Worker } from 'node:worker_threads'
import { FlyweightError, type ErrorCode } from '../errors.js'
import { elementCount, type Tensor } from '../tensor/tensor.js'

export interface LaneOptions {
  id: number
  device: string
  /** Intra-op threads of every session on this lane. */
  threads: number
}

export interface LaneRun {
  outputs: Record<string, Tensor>
  /** Time inside the runtime, without queueing and messages. */
  runMs: number
  /** The feeds' buffers, and memory that was not used, given back for use again. */
  spent: ArrayBuffer[]
}

export interface LaneExit {
  /** True after close(); false when the thread died by itself. */
  expected: boolean
  reason: string
}

/** Messages to the worker; `id` matches the reply. */
export type LaneRequest =
  | { id: number; op: 'load'; key: string; file: string }
  | { id: number; op: 'run'; key: string; feeds: Readonly<Record<string, Tensor>>; fetches: readonly string[] | undefined; memory: readonly ArrayBuffer[] }
  | { id: number; op: 'unload'; key: string }
  | { id: number; op: 'close' }
export type LaneReply = { id: number; result: unknown } | { id: number; error: { code: ErrorCode; detail: string } }

interface Pending {
  resolve(result: never): void
  reject(error: FlyweightError): void
}

/** What a lane gives its thread at the start. `closing[0]` turns 1 when the lane closes, overtaking all messages. */
export interface LaneWorkerData {
  device: string
  threads: number
  closing: Int32Array
}

/** How long close() waits for a thread; one stuck inside a native call ends only when that call does. */
const CLOSE_TIMEOUT_MS = 2000

export class Lane {
  readonly id: number
  readonly device: string
  readonly #worker: Worker
  readonly #pending = new Map<number, Pending>()
  readonly #exitListeners = new Set<(exit: LaneExit) => void>()
  readonly #exited: Promise<void>
  readonly #closingFlag = new Int32Array(new SharedArrayBuffer(4))
  #nextId = 1
  #closing: Promise<void> | undefined
  #dead: string | undefined

  constructor({ id, device, threads }: LaneOptions) {
    this.id = id
    this.device = device
    const workerData: LaneWorkerData = { device, threads, closing: this.#closingFlag }
    this.#worker = new Worker(new URL('./lane-worker.js', import.meta.url), { name: `lane-${id}`, workerData, execArgv: [] })
    this.#worker.on('message', (reply: LaneReply) => this.#settle(reply))
    let failure: string | undefined
    this.#worker.on('error', (error) => {
      failure = error.message
    })
    this.#exited = new Promise((resolve) => {
      this.#worker.on('exit', (code) => {
        this.#die(failure ?? `it exited with code ${code}`)
        for (const listener of this.#exitListeners) listener({ expected: this.#closing !== undefined, reason: this.#dead ?? '' })
        resolve()
      })
    })
  }

  /**
   * Opens a session on `file` under `key`. `residentBytes` is how much the process grew meanwhile: rough,
   * since other threads allocate too.
   * @throws FlyweightError `invalid_model` or `out_of_memory`; `inference_failed` when the thread dies.
   */
  load(key: string, file: string): Promise<{ loadMs: number; residentBytes: number }> {
    return this.#post({ id: this.#nextId++, op: 'load', key, file })
  }

  /**
   * Runs one batch. The feeds' ArrayBuffers move to the thread: the caller's arrays are empty afterwards. Outputs that are
   * just as large as a buffer of `memory`, which moves too, may be written into it.
   * @throws FlyweightError `invalid_input` when shapes do not fit, else `inference_failed`.
   */
  run(key: string, feeds: Readonly<Record<string, Tensor>>, fetches?: readonly string[], memory: readonly ArrayBuffer[] = []): Promise<LaneRun> {
    const moved: Record<string, Tensor> = {}
    const buffers: ArrayBuffer[] = [...memory]
    // The thread could not read such a message, nor say so: nobody would ever answer.
    const gone = Object.keys(feeds).find((name) => isGone(feeds[name] as Tensor))
    if (gone !== undefined) return Promise.reject(new FlyweightError('inference_failed', `the memory of "${gone}" was given away before`))
    for (const name in feeds) moved[name] = movable(feeds[name] as Tensor, buffers)
    return this.#post({ id: this.#nextId++, op: 'run', key, feeds: moved, fetches, memory }, buffers)
  }

  /** Releases the session of `key`; nothing happens when there is none. */
  unload(key: string): Promise<void> {
    return this.#post({ id: this.#nextId++, op: 'unload', key })
  }

  /**
   * Rejects everything pending at once; the thread skips what waits, releases its sessions and ends. A run in
   * flight cannot be interrupted: then this resolves after two seconds at most, and the thread ends with the run.
   */
  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  /** Calls `listener` once, when the thread has ended for whatever reason; returns the unsubscribe function. */
  onExit(listener: (exit: LaneExit) => void): () => void {
    this.#exitListeners.add(listener)
    return () => this.#exitListeners.delete(listener)
  }

  async #close(): Promise<void> {
    const alive = this.#dead === undefined
    this.#die('it was closed')
    if (!alive) return
    // Not worker.terminate(): the runtime's binding aborts the whole process when a run returns into a
    // terminated thread (onnxruntime-node 1.30), and terminating would not shorten a native call anyway.
    Atomics.store(this.#closingFlag, 0, 1)
    this.#worker.postMessage({ id: 0, op: 'close' } satisfies LaneRequest)
    let timer: NodeJS.Timeout | undefined
    const deadline = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, CLOSE_TIMEOUT_MS)
    })
    await Promise.race([this.#exited, deadline])
    clearTimeout(timer)
  }

  #post<Result>(request: LaneRequest, transfer: readonly ArrayBuffer[] = []): Promise<Result> {
    return new Promise<Result>((resolve, reject) => {
      if (this.#dead !== undefined) return reject(this.#deathError())
      this.#pending.set(request.id, { resolve, reject })
      try {
        this.#worker.postMessage(request, transfer)
      } catch (cause) {
        this.#pending.delete(request.id)
        reject(new FlyweightError('inference_failed', `the tensors could not be sent to lane ${this.id}: ${String(cause)}`, { cause }))
      }
    })
  }

  #settle(reply: LaneReply): void {
    const pending = this.#pending.get(reply.id)
    if (pending === undefined) return
    this.#pending.delete(reply.id)
    if ('error' in reply) pending.reject(new FlyweightError(reply.error.code, reply.error.detail))
    else pending.resolve(reply.result as never)
  }

  #die(reason: string): void {
    this.#dead ??= reason
    for (const pending of this.#pending.values()) pending.reject(this.#deathError())
    this.#pending.clear()
  }

  #deathError(): FlyweightError {
    return new FlyweightError('inference_failed', `lane ${this.id} is gone: ${this.#dead}`)
  }
}

/** Its buffer has moved: elements are declared, but there are none. */
function isGone({ data, dims }: Tensor): boolean {
  return data.length === 0 && elementCount(dims) > 0
}

/**
 * Collects the buffer to transfer. Node's Buffer pool can be neither transferred nor detached, and a
 * view on it would drag the whole pool along, so small partial views are copied out first.
 */
function movable(tensor: Tensor, buffers: ArrayBuffer[]): Tensor {
  const { data } = tensor
  if (Array.isArray(data)) return tensor
  if (data.byteLength !== data.buffer.byteLength && data.buffer.byteLength <= Buffer.poolSize) {
    const copy = data.slice()
    buffers.push(copy.buffer)
    return { dtype: tensor.dtype, dims: tensor.dims, data: copy }
  }
  if (!buffers.includes(data.buffer)) buffers.push(data.buffer)
  return tensor
}
