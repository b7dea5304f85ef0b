// Where batches run, behind one numbering: lanes first, each with whole variants of its own, then pipeline slots, one
// for each batch that may be in flight through stages. Pipeline slots share what is loaded.
import type { Variant } from '../registry/model.js'
import type { LanePool } from './lane-pool.js'
import type { PipelinePool } from './pipeline-pool.js'
import type { Runner } from './runner.js'

export class Slots {
  /** Of lanes. */
  readonly lanes: number
  readonly count: number
  readonly #lanes: LanePool
  readonly #pipelines: PipelinePool

  constructor(lanes: LanePool, pipelines: PipelinePool) {
    this.#lanes = lanes
    this.#pipelines = pipelines
    this.lanes = lanes.count
    this.count = lanes.count + pipelines.count
  }

  free(): number[] {
    return [...this.#lanes.free(), ...this.#pipelines.free().map((id) => id + this.lanes)]
  }

  /** Milliseconds until the slot is predicted free; 0 when it is. */
  freeInMs(id: number, now: number): number {
    return id < this.lanes ? this.#lanes.freeInMs(id, now) : this.#pipelines.freeInMs(id - this.lanes, now)
  }

  take(id: number, freeAt: number): void {
    if (id < this.lanes) this.#lanes.take(id, freeAt)
    else this.#pipelines.take(id - this.lanes, freeAt)
  }

  give(id: number): void {
    if (id < this.lanes) this.#lanes.give(id)
    else this.#pipelines.give(id - this.lanes)
  }

  /** Lanes run whole variants, pipeline slots those in stages. */
  suits(id: number, variant: Variant): boolean {
    return id < this.lanes === (variant.shards === undefined)
  }

  /** Slots that share the load with this one, itself included. */
  peers(id: number): number {
    return id < this.lanes ? this.lanes : this.#pipelines.count
  }

  /** Number under which the cache knows the memory of the slot: a lane's own, or the one that all pipeline slots share. */
  home(id: number): number {
    return Math.min(id, this.lanes)
  }

  /** Undefined while a lane is gone, or a sharded variant is not loaded; another one once it was replaced. */
  runner(id: number, variant: Variant): Runner | undefined {
    return id < this.lanes ? this.#lanes.lane(id) : this.#pipelines.runner(variant.id)
  }

  /** Ends what hangs: the lane, or all devices of the variant; successors take their place. */
  abandon(id: number, variant: Variant, reason: string): void {
    if (id < this.lanes) this.#lanes.abandon(id, reason)
    else this.#pipelines.abandon(variant.id, reason)
  }
}
