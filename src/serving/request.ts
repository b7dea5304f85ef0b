// One inference request and its answer, as the doors hand them to the gateway and get them back.
import type { Sla } from '../registry/manifest.js'
import type { Tensor } from '../tensor/tensor.js'

export interface InferRequest {
  id: string
  model: string
  /** Newest served version when absent. */
  version?: string
  inputs: Readonly<Record<string, Tensor>>
  /** Names of wanted outputs; all when absent. */
  outputs?: readonly string[]
  sla: Sla
  /** Pins one variant by name. */
  variant?: string
  /** Fills `route.considered` in the answer. */
  explain?: boolean
  /** Aborted when the client leaves. */
  signal: AbortSignal
  /** performance.now() when the first byte of the request was read. */
  arrivedAt: number
}

export interface Considered {
  variant: string
  fidelity: number
  state: string
  resident: boolean
  /** p99 at the batch size considered, where known. */
  predictedMs: number | undefined
  chosen: boolean
  /** Why it was or was not chosen. */
  reason: string
}

export interface InferResult {
  id: string
  model: string
  version: string
  variant: string
  outputs: Readonly<Record<string, Tensor>>
  /**
   * To be called, at most once, when nobody reads the outputs any more: their memory is free at once then. Who does
   * not call it leaves it to the garbage collector.
   */
  release(): void
  fidelity: number
  timing: { queueMs: number; inferMs: number; totalMs: number; batchSize: number }
  route: { reason: string; deadlineMet: boolean; considered?: readonly Considered[] }
}

export interface RouteExplanation {
  model: string
  version: string
  sla: Sla
  /** Variant that would answer now, or undefined when the request would be refused. */
  chosen: string | undefined
  reason: string
  /** Recipe whose build such a request would trigger, if any. */
  wouldBuild: string | undefined
  considered: readonly Considered[]
}

/** Counters behind v2's statistics extension; nanoseconds. */
export interface ModelStats {
  name: string
  version: string
  inferenceCount: number
  executionCount: number
  lastInferenceMs: number
  success: { count: number; ns: number }
  fail: { count: number; ns: number }
  queue: { count: number; ns: number }
  infer: { count: number; ns: number }
  batches: readonly { batchSize: number; count: number; inferNs: number }[]
}

export interface CacheEntry {
  variant: string
  lane: number
  bytes: number
  state: 'loading' | 'resident'
  leases: number
  pinned: boolean
  loadedAt: string
  lastUsedAt: string
  hits: number
}

export interface CacheSnapshot {
  budgetBytes: number
  residentBytes: number
  entries: readonly CacheEntry[]
  evictions: Readonly<Record<string, number>>
  loads: number
}
