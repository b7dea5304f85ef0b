// Stages one after the other, or parts side by side? Which plan fits, and which is better for what is wanted. Pure.
import type { ShardPlan } from '../measurements.js'
import type { StageDevice } from './stage-costs.js'

/** What `auto` chooses is the better of the others. */
export const STRATEGIES = ['pipeline', 'tensor', 'auto'] as const
export type Strategy = (typeof STRATEGIES)[number]

/** The time of one request on its own, or requests a second. */
export const OBJECTIVES = ['latency', 'throughput'] as const
export type Objective = (typeof OBJECTIVES)[number]

/** The best plan for it; of equals the first. `plans` has one at least. */
export function bestPlan<Plan extends Pick<ShardPlan, 'latencyMs' | 'intervalMs'>>(plans: readonly Plan[], objective: Objective): Plan {
  const cost = ({ latencyMs, intervalMs }: Plan) => (objective === 'latency' ? latencyMs : intervalMs)
  return plans.reduce((best, plan) => (cost(plan) < cost(best) ? plan : best))
}

/** Names of devices that would hold more than their budgets, with what that is. A device may have several stages. */
export function overfull(
  stages: readonly { device: string; weightBytes: number }[],
  devices: readonly StageDevice[],
): { device: string; bytes: number; budgetBytes: number }[] {
  return devices.flatMap(({ name, budgetBytes = Infinity }) => {
    const bytes = stages.filter(({ device }) => device === name).reduce((sum, { weightBytes }) => sum + weightBytes, 0)
    return bytes > budgetBytes ? [{ device: name, bytes, budgetBytes }] : []
  })
}
