// Which host holds which stage: as planned while the planned host lives, else where most room is. Pure policy.
import { FlyweightError } from '../errors.js'

export interface StageDemand {
  /** What it occupies once loaded. */
  bytes: number
  /** For one micro-batch on a host of speed 1. */
  ms: number
  /** Name of the host that it was planned for, or is on. */
  planned?: string
}

export interface HostRoom {
  name: string
  /** Weights that it may hold; default: any. */
  budgetBytes?: number
  /** Of that, what others hold already; default 0. */
  heldBytes?: number
  /** Default 1. */
  speed?: number
}

/** Steps of the search; what takes more of them than this counts as not fitting. */
const MOST_STEPS = 100_000

/**
 * The host of each stage. Stages stay where they were planned where those hosts are among `hosts` and have room; each
 * other one goes where most room is left, of equals to the host that would be done first. Where the rest then does not
 * fit, stages move that need not.
 * @throws FlyweightError `invalid_plan` where no placement keeps the budgets
 */
export function placeStages(stages: readonly StageDemand[], hosts: readonly HostRoom[]): string[] {
  if (hosts.length === 0) throw new FlyweightError('invalid_plan', `no device is there to hold ${stages.length} stages`)
  const placed = search(stages, hosts, true) ?? search(stages, hosts, false)
  if (placed !== undefined) return placed.map((host) => hosts[host]!.name)
  const rooms = hosts.map((host) => `${host.name} has room for ${roomOf(host)}`).join(', ')
  throw new FlyweightError('invalid_plan', `stages of ${stages.map(({ bytes }) => bytes).join(', ')} bytes do not fit the devices: ${rooms}`)
}

/** Depth first, most likely hosts first; undefined where nothing fits. */
function search(stages: readonly StageDemand[], hosts: readonly HostRoom[], keep: boolean): number[] | undefined {
  const rooms = hosts.map(roomOf)
  const busy = hosts.map(() => 0)
  const placed = stages.map(({ planned }) => (keep ? hosts.findIndex(({ name }) => name === planned) : -1))
  const loose = stages.flatMap((_, stage) => (placed[stage] === -1 ? [stage] : [])).sort((a, b) => stages[b]!.bytes - stages[a]!.bytes)
  const put = (stage: number, host: number, sign: 1 | -1) => {
    rooms[host]! -= sign * stages[stage]!.bytes
    busy[host]! += (sign * stages[stage]!.ms) / (hosts[host]!.speed ?? 1)
  }
  for (const [stage, host] of placed.entries()) if (host !== -1) put(stage, host, 1)
  if (rooms.some((room) => room < 0)) return undefined
  let steps = MOST_STEPS
  const place = (at: number): boolean => {
    const stage = loose[at]
    if (stage === undefined) return true
    const { bytes, ms, planned } = stages[stage]!
    const doneAt = (host: number) => busy[host]! + ms / (hosts[host]!.speed ?? 1)
    const order = [...hosts.keys()].filter((host) => rooms[host]! >= bytes)
    const asPlanned = (host: number) => Number(hosts[host]!.name === planned)
    order.sort((a, b) => asPlanned(b) - asPlanned(a) || compare(rooms[b]!, rooms[a]!) || doneAt(a) - doneAt(b))
    for (const host of order) {
      if (steps-- <= 0) return false
      put(stage, host, 1)
      placed[stage] = host
      if (place(at + 1)) return true
      put(stage, host, -1)
    }
    return false
  }
  return place(0) ? placed : undefined
}

/** Rooms without bounds are equal. */
function compare(a: number, b: number): number {
  return a === b ? 0 : a - b
}

function roomOf({ budgetBytes = Infinity, heldBytes = 0 }: HostRoom): number {
  return budgetBytes - heldBytes
}
