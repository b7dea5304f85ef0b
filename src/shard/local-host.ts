// Stages on this machine: a lane, a thread with sessions of its own, as a stage host. The thread starts with the first
// stage. Lost is lost: whoever owns it opens another.
import { FlyweightError } from '../errors.js'
import { Lane, type LaneOptions, type LaneRun } from '../runtime/lane.js'
import type { Tensor } from '../tensor/tensor.js'
import type { StageHost } from './stage-host.js'

/** Two WebGPU sessions on two threads at once end the process (onnxruntime-node 1.30). */
const openWebgpu = new Set<LocalHost>()

export interface LocalHostOptions {
  /** `cpu:0`, `cpu:1`: threads of this machine's processors, any number; `webgpu:0`, `cuda:N`. */
  device: string
  /** Intra-op threads; default 1. */
  threads?: number
  /** Number of the lane, for messages and names of threads; default that of the device. */
  id?: number
}

export class LocalHost implements StageHost {
  readonly name: string
  readonly #options: LaneOptions
  readonly #listeners = new Set<(reason: string) => void>()
  #lane: Lane | undefined
  #lost: string | undefined
  #closed = false

  /** @throws FlyweightError `invalid_config` for a second WebGPU device in this process */
  constructor({ device, threads = 1, id = Number(device.split(':')[1] ?? 0) }: LocalHostOptions) {
    this.name = device
    const webgpu = device.startsWith('webgpu')
    const [other] = openWebgpu
    if (webgpu && other !== undefined) {
      throw new FlyweightError('invalid_config', `device "${device}" came beside "${other.name}", expected one WebGPU device a process: two end it`)
    }
    if (webgpu) openWebgpu.add(this)
    this.#options = { id, device, threads }
  }

  async load(key: string, file: string): Promise<{ loadMs: number; residentBytes: number }> {
    return this.#open().load(key, file)
  }

  async run(key: string, feeds: Readonly<Record<string, Tensor>>, fetches?: readonly string[], memory?: readonly ArrayBuffer[]): Promise<LaneRun> {
    return this.#open().run(key, feeds, fetches, memory)
  }

  async unload(key: string): Promise<void> {
    await this.#lane?.unload(key)
  }

  async close(): Promise<void> {
    this.#closed = true
    if (this.#lane === undefined) openWebgpu.delete(this)
    await this.#lane?.close()
  }

  onLost(listener: (reason: string) => void): () => void {
    if (this.#lost !== undefined) listener(this.#lost)
    else this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  #open(): Lane {
    if (this.#closed) throw new FlyweightError('inference_failed', `device ${this.name} was closed`)
    if (this.#lane !== undefined) return this.#lane
    this.#lane = new Lane(this.#options)
    this.#lane.onExit(({ expected, reason }) => {
      openWebgpu.delete(this)
      if (expected) return
      this.#lost = reason
      for (const listener of this.#listeners) listener(reason)
      this.#listeners.clear()
    })
    return this.#lane
  }
}
