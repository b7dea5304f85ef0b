// Counters per model version behind the v2 statistics extension. Counts; decides nothing.
import type { ModelStats } from './request.js'

interface Counters {
  count: number
  ns: number
}

class Totals {
  inferenceCount = 0
  executionCount = 0
  lastInferenceMs = 0
  readonly success: Counters = { count: 0, ns: 0 }
  readonly fail: Counters = { count: 0, ns: 0 }
  readonly queue: Counters = { count: 0, ns: 0 }
  readonly infer: Counters = { count: 0, ns: 0 }
  readonly batches = new Map<number, Counters>()
}

export interface Served {
  rows: number
  batchSize: number
  queueMs: number
  inferMs: number
  totalMs: number
}

export class StatsBook {
  readonly #totals = new Map<string, { name: string; version: string; totals: Totals }>()

  served(name: string, version: string, { rows, batchSize, queueMs, inferMs, totalMs }: Served): void {
    const totals = this.#of(name, version)
    totals.inferenceCount += rows
    // A batch of n rows is one execution, shared by its requests in proportion.
    const share = rows / batchSize
    totals.executionCount += share
    totals.lastInferenceMs = Date.now()
    add(totals.success, totalMs)
    add(totals.queue, queueMs)
    add(totals.infer, inferMs)
    let batch = totals.batches.get(batchSize)
    if (batch === undefined) totals.batches.set(batchSize, (batch = { count: 0, ns: 0 }))
    batch.count += share
    batch.ns += inferMs * 1e6 * share
  }

  failed(name: string, version: string, totalMs: number): void {
    add(this.#of(name, version).fail, totalMs)
  }

  /** Of all models, or of one, or of one version. */
  list(name?: string, version?: string): ModelStats[] {
    return [...this.#totals.values()]
      .filter((entry) => (name === undefined || entry.name === name) && (version === undefined || entry.version === version))
      .map(({ name: model, version: number, totals }) => ({
        name: model,
        version: number,
        inferenceCount: totals.inferenceCount,
        executionCount: Math.round(totals.executionCount),
        lastInferenceMs: totals.lastInferenceMs,
        success: rounded(totals.success),
        fail: rounded(totals.fail),
        queue: rounded(totals.queue),
        infer: rounded(totals.infer),
        batches: [...totals.batches].map(([batchSize, { count, ns }]) => ({ batchSize, count: Math.round(count), inferNs: Math.round(ns) })),
      }))
  }

  #of(name: string, version: string): Totals {
    const key = `${name}:${version}`
    let entry = this.#totals.get(key)
    if (entry === undefined) this.#totals.set(key, (entry = { name, version, totals: new Totals() }))
    return entry.totals
  }
}

function add(counters: Counters, ms: number): void {
  counters.count += 1
  counters.ns += ms * 1e6
}

function rounded({ count, ns }: Counters): Counters {
  return { count, ns: Math.round(ns) }
}
