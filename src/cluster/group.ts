// A training's group: its own ranks, and the workers that join through Redis.
import type { ParallelSettings } from '../train/parallel/parallel-settings.js'
import type { Ranks } from '../train/parallel/ranks.js'
import { combineRanks, withHalves } from './combined-ranks.js'
import { openRedisRanks } from './redis-ranks.js'

export interface GroupOptions {
  /** URL of Redis. */
  redis: string
  log(line: string): void
}

/**
 * Adds those who join a training's group to its own ranks.
 * @throws FlyweightError `invalid_config` where Redis cannot be reached
 */
export async function openGroup(own: Ranks, { group = '', wire }: ParallelSettings, { redis, log }: GroupOptions): Promise<Ranks> {
  const half = wire === 'fp16'
  return combineRanks([half ? withHalves(own) : own, await openRedisRanks({ url: redis, group, half, log })])
}
