// `flyweight shard file.onnx`: cuts a model into stages, each a model of its own, and tells what they will cost.
import { writeFile } from 'node:fs/promises'
import { basename, extname, join } from 'node:path'
import { shardPlot } from '../chart/shard-plot.js'
import { bytes } from '../chart/units.js'
import { FlyweightError } from '../errors.js'
import type { ShardPlan, StagePlan } from '../measurements.js'
import { kserveManifests, kserveName, type KserveOptions } from '../shard/kserve.js'
import { writeKserve } from '../shard/kserve-files.js'
import { shardModel } from '../shard/shard.js'
import type { Objective, Strategy } from '../shard/strategy.js'
import { openFile } from './file-subject.js'
import { milliseconds, table, type Column } from './table.js'
import type { Terminal } from './terminal.js'

export interface ShardFlags {
  out: string
  stages?: number
  /** Names of tensors. */
  cuts?: readonly string[]
  /** Bytes of weights that a device may have. */
  budget?: number
  samples?: string
  strategy?: Strategy
  objective?: Objective
  /** Writes what KServe needs, too. */
  target?: 'files' | 'kserve'
  image?: string
  /** URI that the nodes load their stages from. */
  storage?: string
  /** Of the InferenceGraph; default: the file's. */
  name?: string
  namespace?: string
}

/** Micro-batches in flight that the plan is told for. */
const MICRO_BATCHES = 8

/**
 * Writes the stages, plan.json and plan.svg into the folder `out`.
 * @throws FlyweightError for a model or samples that cannot be used, and for cuts that cannot be made
 */
export async function shardFile(
  terminal: Terminal,
  file: string,
  { out, stages, cuts, budget, samples, strategy = 'pipeline', objective = 'latency', ...flags }: ShardFlags,
): Promise<void> {
  const kserve = kserveOptions(file, flags)
  const count = cuts === undefined ? stages : cuts.length + 1
  if (count === undefined) throw new FlyweightError('invalid_input', '--stages is missing, expected it or --cuts')
  if (stages !== undefined && stages !== count) {
    throw new FlyweightError('invalid_input', `--stages ${stages} came with ${cuts?.length} cuts, which make ${count} stages; expected one of the two`)
  }
  if (cuts !== undefined && strategy === 'tensor') throw new FlyweightError('invalid_input', '--cuts came with --strategy tensor, expected only one of the two')
  const { feedsAt, maxBatch, threads, device } = await openFile(file, samples === undefined ? {} : { samples })
  const plan = await shardModel(file, {
    folder: out,
    feedSets: maxBatch > 1 ? [feedsAt(1), feedsAt(2)] : [feedsAt(1)],
    devices: Array.from({ length: count }, (_, index) => ({ name: `${device}:${index}`, ...(budget === undefined ? {} : { budgetBytes: budget }) })),
    ...{ strategy, objective, cuts, device, threads, microBatches: MICRO_BATCHES },
  })
  await writeFile(join(out, 'plan.json'), `${JSON.stringify(plan, undefined, 2)}\n`)
  await writeFile(join(out, 'plan.svg'), planPicture(plan, { title: basename(file), budget }))
  if (kserve) await writeKserve(file, out, plan, kserve)
  const written = `${plan.stages.length} stages, plan.json and plan.svg${kserve ? ', storage/ and kserve.yaml' : ''}`
  if (!terminal.interactive) terminal.json({ out, ...plan })
  else for (const line of [...planLines(plan), '', `wrote ${written} into ${out}`]) terminal.print(line)
}

/** @throws FlyweightError `invalid_input` where one is missing, before anything is measured */
function kserveOptions(file: string, { target, image, storage, name, namespace }: Omit<ShardFlags, 'out'>): KserveOptions | undefined {
  if (target !== 'kserve') return undefined
  if (image === undefined) throw new FlyweightError('invalid_input', '--image is missing, expected that of Flyweight for --target kserve')
  if (storage === undefined) throw new FlyweightError('invalid_input', '--storage is missing, expected the URI that nodes load stages from for --target kserve')
  const options = { name: name ?? kserveName(basename(file, extname(file))), image, storage, ...(namespace === undefined ? {} : { namespace }) }
  kserveManifests([], options)
  return options
}

function planPicture({ stages, microBatches }: ShardPlan, { title, budget }: { title: string; budget: number | undefined }): string {
  const plotted = stages.map(({ device, weightBytes, computeMs, transferMs, reads }) => ({
    ...{ device, weightBytes, ms: computeMs + transferMs, reads },
    ...(budget === undefined ? {} : { budgetBytes: budget }),
  }))
  return shardPlot({ stages: plotted, microBatches }, { title })
}

const columns: readonly Column<StagePlan & { stage: number }>[] = [
  { head: 'stage', cell: ({ stage }) => String(stage), align: 'right' },
  { head: 'device', cell: ({ device }) => device },
  { head: 'nodes', cell: ({ nodes }) => String(nodes), align: 'right' },
  { head: 'weights', cell: ({ weightBytes }) => bytes(weightBytes), align: 'right' },
  { head: 'ms', cell: ({ computeMs }) => milliseconds(computeMs), align: 'right' },
  { head: 'in', cell: ({ inBytes }) => bytes(inBytes), align: 'right' },
  { head: 'out', cell: ({ outBytes }) => bytes(outBytes), align: 'right' },
]

/** Of a model in parts each rank has several. */
const partColumns: typeof columns = [{ head: 'rank', cell: ({ rank }) => String(rank), align: 'right' }, ...columns]

/** The plan as a table, then what it means for the whole. */
export function planLines({ strategy, stages, latencyMs, intervalMs, bubbleShare, microBatches, crossingBytes }: ShardPlan): string[] {
  return [
    ...table(
      strategy === 'tensor' ? partColumns : columns,
      stages.map((plan, stage) => ({ stage, ...plan })),
    ),
    '',
    `one micro-batch takes ${milliseconds(latencyMs)} ms, and one comes every ${milliseconds(intervalMs)} ms; ${bytes(crossingBytes)} pass between stages for each`,
    `with ${microBatches} micro-batches stages wait ${(100 * bubbleShare).toFixed(0)} % of the time`,
  ]
}
