// `flyweight shard file.onnx`: cuts a model into stages, each a model of its own, and tells what they will cost.
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { bytes } from '../chart/units.js'
import { FlyweightError } from '../errors.js'
import { dataflow } from '../shard/dataflow.js'
import { readBeside, saveStages } from '../shard/files.js'
import { stagesByCuts } from '../shard/manual.js'
import { measureWorkload, observeIn } from '../shard/measure.js'
import { partition } from '../shard/partition.js'
import { planOf, type ShardPlan, type StagePlan } from '../shard/plan.js'
import { cutStages } from '../shard/stages.js'
import { valueTypes } from '../shard/value-types.js'
import { openFile } from './file-subject.js'
import { milliseconds, table, type Column } from './table.js'
import type { Terminal } from './terminal.js'

export interface ShardFlags {
  out: string
  stages?: number
  /** Names of tensors. */
  cuts?: readonly string[]
  /** Bytes of weights that a stage may have. */
  budget?: number
  samples?: string
}

/** Micro-batches in flight that the plan is told for. */
const MICRO_BATCHES = 8
/** 10 GB/s: values are copied into a stage and out of it, within one machine's memory. */
const MS_PER_BYTE = 1e-7

/**
 * Writes the stages and plan.json into the folder `out`.
 * @throws FlyweightError for a model or samples that cannot be used, and for cuts that cannot be made
 */
export async function shardFile(terminal: Terminal, file: string, { out, stages, cuts, budget, samples }: ShardFlags): Promise<void> {
  const count = cuts === undefined ? stages : cuts.length + 1
  if (count === undefined) throw new FlyweightError('invalid_input', '--stages is missing, expected it or --cuts')
  if (stages !== undefined && stages !== count) {
    throw new FlyweightError('invalid_input', `--stages ${stages} came with ${cuts?.length} cuts, which make ${count} stages; expected one of the two`)
  }
  const { feedsAt, maxBatch, threads, device } = await openFile(file, samples === undefined ? {} : { samples })
  const model = await readBeside(file, out)
  const flow = dataflow(model)
  const assigned = cuts && stagesByCuts(flow, cuts)
  const feedSets = maxBatch > 1 ? [feedsAt(1), feedsAt(2)] : [feedsAt(1)]
  const observed = await observeIn(out, model, feedSets)
  const work = await measureWorkload(model, { folder: out, flow, observed, feeds: feedSets[0]!, device, threads })
  const devices = Array.from({ length: count }, (_, index) => ({ name: `${device}:${index}`, ...(budget === undefined ? {} : { budgetBytes: budget }) }))
  const assignment = assigned ?? partition(work, { devices, msPerByte: MS_PER_BYTE })
  const parts = cutStages(model, { flow, assignment, typeOf: valueTypes(model.graph, observed) })
  const files = await saveStages(parts, out)
  const plan = planOf(work, assignment, { devices, msPerByte: MS_PER_BYTE, microBatches: MICRO_BATCHES })
  const told = {
    ...plan,
    stages: plan.stages.map((stage, index) => ({ file: files[index], ...stage, inputs: parts[index]?.inputs, outputs: parts[index]?.outputs })),
  }
  await writeFile(join(out, 'plan.json'), `${JSON.stringify(told, undefined, 2)}\n`)
  if (!terminal.interactive) terminal.json({ out, ...told })
  else for (const line of [...planLines(plan), '', `wrote ${files.length} stages and plan.json into ${out}`]) terminal.print(line)
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

/** The plan as a table, then what it means for the whole. */
export function planLines({ stages, intervalMs, bubbleShare, microBatches, crossingBytes }: ShardPlan): string[] {
  return [
    ...table(
      columns,
      stages.map((plan, stage) => ({ stage, ...plan })),
    ),
    '',
    `one micro-batch every ${milliseconds(intervalMs)} ms; ${bytes(crossingBytes)} pass between stages for each`,
    `with ${microBatches} micro-batches stages wait ${(100 * bubbleShare).toFixed(0)} % of the time`,
  ]
}
