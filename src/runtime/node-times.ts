// How long each node of a model takes, by the runtime's own profiler. Its names are those of the graph after all
// fusions; which nodes of the model they come from is told as far as they say.
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { FlyweightError } from '../errors.js'
import type { Tensor } from '../tensor/tensor.js'
import { openSession } from './session.js'

export interface NodeTimesOptions {
  feeds: Readonly<Record<string, Tensor>>
  device?: string
  threads?: number
  /** Runs to take the median of; default 9. One more warms up. */
  runs?: number
  signal?: AbortSignal | undefined
}

/** Time of one node that the runtime executes. */
export interface NodeTime {
  /** A node's name, or that of the tensor it writes where the runtime made it anew. */
  name: string
  opType: string
  /** Median microseconds a run; within a loop the sum of its rounds. */
  microseconds: number
}

/** An event of the trace that the runtime writes (Chrome's trace event format). */
interface TraceEvent {
  cat?: string
  name: string
  dur?: number
  args?: { op_name?: string }
}

/**
 * Runs the model and tells each executed node's time, in order of first execution.
 * @throws FlyweightError `cancelled` when `signal` aborts; what the runtime throws.
 */
export async function nodeTimes(file: string, { feeds, device = 'cpu', threads = 1, runs = 9, signal }: NodeTimesOptions): Promise<NodeTime[]> {
  const folder = await mkdtemp(join(tmpdir(), 'flyweight-trace-'))
  try {
    const session = await openSession(file, { device, threads, tracePrefix: join(folder, 'trace') })
    try {
      for (let run = 0; run <= runs; run++) {
        if (signal?.aborted) throw new FlyweightError('cancelled', 'the measurement was cancelled')
        await session.run(feeds)
      }
    } finally {
      await session.release()
    }
    const [trace] = await readdir(folder)
    return timesIn(trace === undefined ? [] : (JSON.parse(await readFile(join(folder, trace), 'utf8')) as TraceEvent[]))
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

/** The first run is left out: it allocates. A run ends with an event of its own, after those of its nodes. */
function timesIn(events: readonly TraceEvent[]): NodeTime[] {
  const totals: Map<string, { opType: string; microseconds: number }>[] = [new Map()]
  for (const { cat, name, dur = 0, args } of events) {
    if (cat === 'Session' && name === 'model_run') totals.push(new Map())
    if (cat !== 'Node' || !name.endsWith(KERNEL)) continue
    const own = nodeName(name)
    const run = totals.at(-1)!
    run.set(own, { opType: args?.op_name ?? '', microseconds: (run.get(own)?.microseconds ?? 0) + dur })
  }
  const measured = totals.slice(1).filter((run) => run.size > 0)
  const names = new Map(measured.flatMap((run) => [...run].map(([name, { opType }]): [string, string] => [name, opType])))
  return [...names].map(([name, opType]) => ({ name, opType, microseconds: median(measured.map((run) => run.get(name)?.microseconds ?? 0)) }))
}

const KERNEL = '_kernel_time'

/** What the runtime's transformers append or put before a name when they replace its node. */
function nodeName(event: string): string {
  return event
    .slice(0, -KERNEL.length)
    .replace(/^fused /, '')
    .replace(/_nchwc$/, '')
    .replace(/_token_\d+$/, '')
    .replace(/\/\w+Fusion\/?$/, '')
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0
}
