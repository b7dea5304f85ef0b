// A device that holds stages and runs them: a thread of this process (local-host.ts), or a node elsewhere. What
// pipelines, plans and the configuration know of a device.
import type { LaneRun } from '../runtime/lane.js'
import type { Tensor } from '../tensor/tensor.js'

export interface StageHost {
  /** As plans and the configuration name it: `cpu:0`, `webgpu:0`, `grpc://127.0.0.1:8081`. */
  readonly name: string
  /**
   * Opens a session on the stage in `file` under `key`, in place of the one that had it.
   * @throws FlyweightError `invalid_model` or `out_of_memory`; `inference_failed` when the host is gone
   */
  load(key: string, file: string): Promise<{ loadMs: number; residentBytes: number }>
  /**
   * Runs one micro-batch. The feeds' ArrayBuffers move: the caller's arrays may be empty afterwards. Outputs may be written
   * into `memory`; what of it moved and was not used comes back as spent.
   * @throws FlyweightError `invalid_input` when shapes do not fit, else `inference_failed`
   */
  run(key: string, feeds: Readonly<Record<string, Tensor>>, fetches?: readonly string[], memory?: readonly ArrayBuffer[]): Promise<LaneRun>
  /** Releases the session of `key`; nothing happens when there is none. */
  unload(key: string): Promise<void>
  /** Rejects what is pending. */
  close(): Promise<void>
  /** Calls `listener` once when the host died by itself, at once where it has; returns the unsubscribe function. */
  onLost(listener: (reason: string) => void): () => void
}
