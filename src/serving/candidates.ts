// How the variants of a model stand: what each would take on a slot, and which slots are best for it. Asks what is
// loaded, measured and free, and changes nothing.
import type { ModelVersion, Variant } from '../registry/model.js'
import type { LatencyBook } from './latency-book.js'
import type { ModelQueue } from './model-queue.js'
import type { Candidate } from './router.js'
import type { Slots } from './slots.js'
import { loadMsOf, residentBytesOf, unfitReason } from './variant-cost.js'
import type { VariantCache } from './variant-cache.js'

export interface Standing {
  slots: Slots
  cache: VariantCache
  book: LatencyBook
  /** Weights of a whole variant that a lane may load; 0: any. */
  limits: { laneBudgetBytes: number }
  variants(model: ModelVersion): readonly Variant[]
}

/** The model's variants as they stand for one slot, or for any slot when `slot` is undefined. */
export function candidatesFor(standing: Standing, queue: ModelQueue, slot?: number): Candidate[] {
  const { slots, book, limits, variants } = standing
  return variants(queue.model).flatMap((variant) => {
    if (slot !== undefined && !slots.suits(slot, variant)) return []
    const loadMs = loadMsOn(standing, variant, { queue, slot })
    if (loadMs === undefined) return []
    const { id, name, fidelity, state, sizeOnly } = variant
    const unfit = unfitReason(variant, limits.laneBudgetBytes)
    const predict = (batch: number) => book.predict(id, queue.bucket, batch)
    return [{ id, name, fidelity: fidelity.score, state, sizeOnly, loadMs, predict, ...(unfit === undefined ? {} : { unfit }) }]
  })
}

/** Free slots that one of the model's variants can run on: first those that hold most of them, then those that hold least else. */
export function freeSlots(standing: Standing, model: ModelVersion): number[] {
  const { slots, cache, variants } = standing
  const holding = (slot: number) => variants(model).filter((variant) => cache.isResident(variant.id, slots.home(slot))).length
  const bytes = (slot: number) => cache.bytesOn(slots.home(slot))
  return slots
    .free()
    .filter((slot) => suitsModel(standing, slot, model))
    .sort((a, b) => holding(b) - holding(a) || bytes(a) - bytes(b))
}

export function suitsModel({ slots, variants }: Standing, slot: number, model: ModelVersion): boolean {
  return variants(model).some((variant) => slots.suits(slot, variant))
}

/** Milliseconds until the variant could run; undefined when it is better left to the slots that hold it. */
function loadMsOn(standing: Standing, variant: Variant, { queue, slot }: { queue: ModelQueue; slot: number | undefined }): number | undefined {
  const { cache, slots } = standing
  if (slot !== undefined && cache.isResident(variant.id, slots.home(slot))) return 0
  const loadMs = loadMsOf(variant)
  if (slot === undefined) return cache.lanesOf(variant.id).length > 0 ? 0 : loadMs
  const holders = holdersOf(standing, variant, queue)
  if (holders.length === 0) return loadMs
  // A second copy is worth its load only if the queue would outlast it, and never at another variant's cost.
  const drainMs = (queue.rows * queue.msPerRow) / holders.length
  return drainMs > loadMs && cache.fitsFree(residentBytesOf(variant)) ? loadMs : undefined
}

/**
 * Slots that hold the variant. A whole variant and its stages compute the same, so that one is as good as the other
 * to a request that does not pin either.
 */
function holdersOf({ cache, variants }: Standing, variant: Variant, queue: ModelQueue): number[] {
  const own = cache.lanesOf(variant.id)
  if (own.length > 0 || queue.line[0]?.pinned !== undefined) return own
  const twins = variants(queue.model).filter((other) => other.id !== variant.id && other.state === 'ready' && wholeOf(other) === wholeOf(variant))
  return twins.flatMap(({ id }) => cache.lanesOf(id))
}

/** Id of the variant that this one is the same computation as. */
function wholeOf({ id, shards }: Variant): string {
  return shards?.parent ?? id
}
