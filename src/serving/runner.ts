// What runs batches of a variant: a lane, or the pipeline of a sharded one.
import type { LaneRun } from '../runtime/lane.js'
import type { Tensor } from '../tensor/tensor.js'

export interface Runner {
  run(key: string, feeds: Readonly<Record<string, Tensor>>, fetches?: readonly string[]): Promise<LaneRun>
}
