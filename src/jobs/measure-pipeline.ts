// What a row of stages costs as a whole on this machine: through the pipeline that serves them, with a thread for each
// stage. Also whether it answers as the whole model does.
import { join } from 'node:path'
import { batchesOf, type Samples } from '../compress/samples.js'
import { OutputTally } from '../compress/tally.js'
import { FlyweightError } from '../errors.js'
import type { BatchLatency, OutputFidelity } from '../measurements.js'
import { freeOutputs } from '../runtime/free-outputs.js'
import { openSession } from '../runtime/session.js'
import { LocalHost } from '../shard/local-host.js'
import { Pipeline, type StageRun } from '../shard/pipeline.js'
import type { MeasuredStage } from '../shard/plan.js'
import type { StageHost } from '../shard/stage-host.js'
import type { Tensor } from '../tensor/tensor.js'

export interface StageFiles {
  folder: string
  stages: readonly { file: string; inputs: readonly string[]; outputs: readonly string[] }[]
  inputs: readonly string[]
  outputs: readonly string[]
  batchable: boolean
}

export interface PipelineMeasurement {
  /** Rows of a micro-batch. */
  microBatch: number
  latencies: BatchLatency[]
  stages: MeasuredStage[]
  residentBytes: number
  loadMs: number
}

export interface MeasurePipelineOptions {
  feedsAt(batch: number): Record<string, Tensor>
  /** Ascending. */
  batches: readonly number[]
  /** `auto`: what answers the largest batch soonest. */
  microBatch: number | 'auto'
  threads: number
  /** Measuring time per batch size. */
  budgetMs: number
  signal: AbortSignal
  onProgress(fraction: number): void
}

/** Runs that are made even when they exceed the budget, and at most. */
const RUNS = { least: 5, most: 200, toChoose: 5, sizes: 6 }
/** Cosine similarity and share of equal argmaxes below which stages are not the same model. */
const SAME = { cosine: 0.999, top1: 0.99 }
/** Rows compared. */
const MOST_ROWS = 64

/** Opens the stages for as long as `work` runs. Devices of other kinds and machines are stood in for by threads of this one. */
export async function withStages<Result>({ folder, stages }: StageFiles, threads: number, work: (open: OpenStages) => Promise<Result>): Promise<Result> {
  const hosts = stages.map((_, stage) => new LocalHost({ device: `cpu:${stage}`, threads }))
  const before = process.memoryUsage().rss
  const start = performance.now()
  try {
    const loads = await Promise.all(stages.map(({ file }, stage) => hosts[stage]!.load('stage', join(folder, file))))
    const held = loads.reduce((sum, { residentBytes }) => sum + residentBytes, 0)
    return await work({ hosts, loadMs: performance.now() - start, residentBytes: () => Math.max(held, process.memoryUsage().rss - before) })
  } finally {
    await Promise.all(hosts.map((host) => host.close()))
  }
}

export interface OpenStages {
  hosts: readonly StageHost[]
  loadMs: number
  /** Growth of the process until now. */
  residentBytes(): number
}

export async function measurePipeline(files: StageFiles, open: OpenStages, options: MeasurePipelineOptions): Promise<PipelineMeasurement> {
  const { batches, feedsAt } = options
  const largest = batches.at(-1) ?? 1
  const microBatch = options.microBatch === 'auto' ? await soonest(files, open, { ...options, largest }) : options.microBatch
  const seen = files.stages.map((): StageRun[] => [])
  const pipeline = pipelineOf(files, open, microBatch, (run) => {
    if (run.rows === Math.min(microBatch, largest)) seen[run.stage]!.push(run)
  })
  const latencies: BatchLatency[] = []
  for (const [index, batch] of batches.entries()) {
    const times = await timedRuns(pipeline, () => feedsAt(batch), options)
    latencies.push({ batch, p50Ms: quantile(times, 0.5), p99Ms: quantile(times, 0.99), runs: times.length })
    options.onProgress((index + 1) / batches.length)
  }
  const stages = seen.map((runs): MeasuredStage => {
    const { inBytes = 0, outBytes = 0 } = runs.at(-1) ?? {}
    return {
      computeMs: quantile(
        runs.map(({ busyMs }) => busyMs),
        0.5,
      ),
      inBytes,
      outBytes,
    }
  })
  return { microBatch, latencies, stages, residentBytes: open.residentBytes(), loadMs: open.loadMs }
}

/** Outputs of the stages against those of the whole model; `same` is whether they may stand for it. */
export async function compareStages(
  files: StageFiles,
  open: OpenStages,
  { file, samples, batch, threads }: { file: string; samples: Samples; batch: number; threads: number },
): Promise<{ same: boolean; outputs: Record<string, OutputFidelity> }> {
  const whole = await openSession(file, { threads })
  const pipeline = pipelineOf(files, open, batch)
  const tallies = new Map(files.outputs.map((name) => [name, new OutputTally()]))
  try {
    for (const { feeds } of batchesOf(samples, batch, MOST_ROWS)) {
      const expected = await whole.run(feeds)
      const { outputs } = await pipeline.run(structuredClone(feeds))
      for (const [name, tally] of tallies) tally.add(expected[name]!, outputs[name]!)
      freeOutputs(outputs)
    }
  } finally {
    await whole.release()
  }
  const outputs = Object.fromEntries([...tallies].map(([name, tally]) => [name, tally.result()]))
  const same = [...tallies.values()].every((tally) => {
    const { cosine, top1 = 1 } = tally.result()
    return tally.finite && cosine >= SAME.cosine && top1 >= SAME.top1
  })
  return { same, outputs }
}

function pipelineOf(
  { stages, inputs, outputs, batchable }: StageFiles,
  { hosts }: OpenStages,
  microBatch: number,
  onStageRun?: (run: StageRun) => void,
): Pipeline {
  return new Pipeline({
    stages: stages.map((stage, index) => ({ key: 'stage', host: hosts[index]!, inputs: stage.inputs, outputs: stage.outputs })),
    inputs,
    outputs,
    batchable,
    microBatch,
    ...(onStageRun === undefined ? {} : { onStageRun }),
  })
}

/** Of the largest batch whole, in halves, quarters, and so on: the cut that is answered soonest. */
async function soonest(files: StageFiles, open: OpenStages, options: MeasurePipelineOptions & { largest: number }): Promise<number> {
  const { largest, feedsAt, signal } = options
  const sizes: number[] = []
  for (let size = largest; size >= 1 && sizes.length < RUNS.sizes; size = size === 1 ? 0 : Math.ceil(size / 2)) sizes.push(size)
  const medians: number[] = []
  for (const size of sizes) {
    const times = await timedRuns(pipelineOf(files, open, size), () => feedsAt(largest), {
      signal,
      budgetMs: options.budgetMs / sizes.length,
      most: RUNS.toChoose,
    })
    medians.push(quantile(times, 0.5))
  }
  return sizes[medians.indexOf(Math.min(...medians))]!
}

/** Milliseconds of each run, after one that is not counted. */
async function timedRuns(
  pipeline: Pipeline,
  feedsOf: () => Record<string, Tensor>,
  { budgetMs, signal, most = RUNS.most }: { budgetMs: number; signal: AbortSignal; most?: number },
): Promise<number[]> {
  const times: number[] = []
  let spentMs = 0
  for (let run = -1; run < most && (run < RUNS.least || spentMs < budgetMs); run++) {
    if (signal.aborted) throw new FlyweightError('cancelled', 'the measurement was cancelled')
    // Feeds move to the devices: each run needs its own.
    const feeds = structuredClone(feedsOf())
    const start = performance.now()
    const { outputs } = await pipeline.run(feeds)
    const elapsed = performance.now() - start
    freeOutputs(outputs)
    if (run < 0) continue
    times.push(elapsed)
    spentMs += elapsed
  }
  return times
}

/** Nearest rank. */
function quantile(values: readonly number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.max(0, Math.ceil(q * sorted.length) - 1)] ?? 0
}
