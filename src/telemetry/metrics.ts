// Prometheus metrics. Implements what serving reports to (ServingObserver); jobs and the catalog are
// told by small methods of their own. Label values come from names of models, variants and error codes:
// all bounded by what the operator put into the repository.
import { monitorEventLoopDelay, type IntervalHistogram } from 'node:perf_hooks'
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client'
import type { CurvePoint } from '../measurements.js'
import type { RequestOutcome, ServingObserver } from '../serving/observer.js'
import { stageMetrics } from './stage-metrics.js'

/** 10 µs to about 84 s, each twice the one before. */
const SECONDS = Array.from({ length: 24 }, (_, step) => Number((1e-5 * 2 ** step).toPrecision(6)))
const ROWS = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]
const JOB_SECONDS = [0.5, 1, 2, 5, 10, 20, 60, 120, 300, 600, 1800, 3600]
const FIDELITY = [0.5, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995, 0.999, 1]

export interface MetricsOptions {
  /** Versions of what runs, for `flyweight_build_info`. */
  build: { version: string; runtime: string; node: string }
  /** Read when metrics are collected: jobs waiting and running, variants by state. */
  gauges?: {
    queuedJobs?: () => number
    runningJobs?: () => number
    variants?: () => Readonly<Record<string, number>>
    /** The last point of the newest training of each model, by the model's name. */
    trainings?: () => ReadonlyMap<string, CurvePoint>
    /** Micro-batches under way, by the id of the variant. */
    pipelines?: () => ReadonlyMap<string, number>
  }
}

/** A finished job, as metrics see it. */
export interface JobOutcome {
  kind: string
  state: 'succeeded' | 'failed' | 'cancelled'
  seconds: number
  /** Seconds of each pass of a compress job. */
  passes?: readonly { pass: string; seconds: number }[]
}

export interface Metrics extends ServingObserver {
  rowsCaptured(model: string, rows: number): void
  rowsNotCaptured(model: string, rows: number, reason: string): void
  readonly contentType: string
  /** The text exposition, as /metrics answers it. */
  text(): Promise<string>
  jobFinished(outcome: JobOutcome): void
  /** Stops measuring the event loop. */
  close(): void
}

export function createMetrics({ build, gauges = {} }: MetricsOptions): Metrics {
  const registry = new Registry()
  // What is recorded includes the time between two looks, so that must be short beside the delays of interest.
  const loop = monitorEventLoopDelay({ resolution: 1 })
  loop.enable()
  collectDefaultMetrics({ register: registry })
  new Gauge({ name: 'flyweight_build_info', help: 'Versions of what runs; always 1', labelNames: ['version', 'runtime', 'node'], registers: [registry] }).set(
    build,
    1,
  )
  eventLoopGauge(registry, loop)
  const jobs = jobMetrics(registry, gauges)
  return {
    contentType: registry.contentType,
    text: () => registry.metrics(),
    close: () => loop.disable(),
    jobFinished: jobs,
    ...requestMetrics(registry),
    ...memoryMetrics(registry),
    ...stageMetrics(registry, gauges.pipelines),
    ...captureMetrics(registry),
  }
}

function requestMetrics(registry: Registry): Pick<ServingObserver, 'requestFinished' | 'batchFinished' | 'queueDepth'> {
  const registers = [registry]
  const duration = new Histogram({
    name: 'flyweight_request_duration_seconds',
    help: 'From arrival to answer, by outcome: ok or the code of the error',
    labelNames: ['model', 'variant', 'outcome'],
    buckets: SECONDS,
    registers,
  })
  const queue = new Histogram({
    name: 'flyweight_queue_duration_seconds',
    help: 'From admission to the start of the run',
    labelNames: ['model'],
    buckets: SECONDS,
    registers,
  })
  const inference = new Histogram({
    name: 'flyweight_inference_duration_seconds',
    help: 'Time of a run on its lane, one observation a batch',
    labelNames: ['model', 'variant'],
    buckets: SECONDS,
    registers,
  })
  const batch = new Histogram({ name: 'flyweight_batch_size', help: 'Rows of a batch', labelNames: ['model', 'variant'], buckets: ROWS, registers })
  const depth = new Gauge({ name: 'flyweight_queue_depth', help: 'Rows that wait', labelNames: ['model'], registers })
  const sla = new Counter({
    name: 'flyweight_sla_requests_total',
    help: 'Requests with a deadline: met, missed (answered late), shed (refused)',
    labelNames: ['model', 'class', 'result'],
    registers,
  })
  const fidelity = new Histogram({
    name: 'flyweight_fidelity',
    help: 'Fidelity of the variants that answered',
    labelNames: ['model'],
    buckets: FIDELITY,
    registers,
  })
  return {
    requestFinished: ({ model, variant, outcome, sla: result, priority, fidelity: score, queueMs, totalMs }: RequestOutcome) => {
      duration.observe({ model, variant: variant ?? 'none', outcome }, totalMs / 1000)
      if (variant !== undefined) queue.observe({ model }, queueMs / 1000)
      if (score !== undefined) fidelity.observe({ model }, score)
      if (result !== undefined) sla.inc({ model, class: `p${priority}`, result })
    },
    batchFinished: ({ model, variant, rows, inferMs }) => {
      inference.observe({ model, variant }, inferMs / 1000)
      batch.observe({ model, variant }, rows)
    },
    queueDepth: (model, rows) => depth.set({ model }, rows),
  }
}

function memoryMetrics(registry: Registry): Pick<ServingObserver, 'variantLoaded' | 'variantEvicted' | 'memory' | 'laneRestarted'> {
  const registers = [registry]
  const resident = new Gauge({ name: 'flyweight_resident_bytes', help: 'Bytes of variants in memory', registers })
  const budget = new Gauge({ name: 'flyweight_memory_budget_bytes', help: 'Bytes that variants may take', registers })
  const loads = new Counter({ name: 'flyweight_loads_total', help: 'Variants loaded into memory', labelNames: ['model', 'variant'], registers })
  const loadTime = new Histogram({
    name: 'flyweight_load_duration_seconds',
    help: 'Time to load a variant on a lane',
    labelNames: ['model', 'variant'],
    buckets: SECONDS,
    registers,
  })
  const evictions = new Counter({ name: 'flyweight_evictions_total', help: 'Variants that left memory, by reason', labelNames: ['reason'], registers })
  const restarts = new Counter({ name: 'flyweight_lane_restarts_total', help: 'Lanes that died and were started again', labelNames: ['lane'], registers })
  return {
    variantLoaded: ({ model, variant, loadMs }) => {
      loads.inc({ model, variant })
      loadTime.observe({ model, variant }, loadMs / 1000)
    },
    variantEvicted: ({ reason }) => evictions.inc({ reason }),
    memory: (residentBytes, budgetBytes) => {
      resident.set(residentBytes)
      budget.set(budgetBytes)
    },
    laneRestarted: (lane) => restarts.inc({ lane: String(lane) }),
  }
}

function captureMetrics(registry: Registry): Pick<Metrics, 'rowsCaptured' | 'rowsNotCaptured'> {
  const registers = [registry]
  const captured = new Counter({
    name: 'flyweight_captured_rows_total',
    help: 'Rows of requests written to the sample of traffic',
    labelNames: ['model'],
    registers,
  })
  const dropped = new Counter({
    name: 'flyweight_capture_dropped_rows_total',
    help: 'Rows chosen for the sample of traffic and not written: busy disk, too large, failed',
    labelNames: ['model', 'reason'],
    registers,
  })
  return {
    rowsCaptured: (model, rows) => captured.inc({ model }, rows),
    rowsNotCaptured: (model, rows, reason) => dropped.inc({ model, reason }, rows),
  }
}

function jobMetrics(
  registry: Registry,
  { queuedJobs, runningJobs, variants, trainings }: NonNullable<MetricsOptions['gauges']>,
): (outcome: JobOutcome) => void {
  const registers = [registry]
  const finished = new Counter({ name: 'flyweight_jobs_total', help: 'Jobs that ended, by state', labelNames: ['kind', 'state'], registers })
  const duration = new Histogram({
    name: 'flyweight_job_duration_seconds',
    help: 'From start to end of a job',
    labelNames: ['kind'],
    buckets: JOB_SECONDS,
    registers,
  })
  const pass = new Histogram({
    name: 'flyweight_compress_pass_duration_seconds',
    help: 'Time of one pass of a compression',
    labelNames: ['pass'],
    buckets: JOB_SECONDS,
    registers,
  })
  const read = (name: string, help: string, value: (() => number) | undefined): void => {
    if (value)
      new Gauge({
        name,
        help,
        registers,
        collect() {
          this.set(value())
        },
      })
  }
  read('flyweight_jobs_queued', 'Jobs that wait', queuedJobs)
  read('flyweight_jobs_running', 'Jobs that run', runningJobs)
  if (variants) {
    new Gauge({
      name: 'flyweight_variants',
      help: 'Variants in the catalog, by state',
      labelNames: ['state'],
      registers,
      collect() {
        this.reset()
        for (const [state, count] of Object.entries(variants())) this.set({ state }, count)
      },
    })
  }
  if (trainings) trainingGauges(registry, trainings)
  return ({ kind, state, seconds, passes = [] }) => {
    finished.inc({ kind, state })
    duration.observe({ kind }, seconds)
    for (const step of passes) pass.observe({ pass: step.pass }, step.seconds)
  }
}

/** Where trainings are: after the end until the next one of the same model, so that short ones are seen, too. */
function trainingGauges(registry: Registry, trainings: () => ReadonlyMap<string, CurvePoint>): void {
  const gauge = (name: string, help: string, read: (point: CurvePoint) => number | undefined) =>
    new Gauge({
      name,
      help,
      labelNames: ['model'],
      registers: [registry],
      collect() {
        this.reset()
        for (const [model, point] of trainings()) {
          const value = read(point)
          if (value !== undefined) this.set({ model }, value)
        }
      },
    })
  gauge('flyweight_training_epochs', 'Epochs that the newest training of a model has done', ({ epoch }) => epoch)
  gauge('flyweight_training_loss', 'Its mean loss since the evaluation before the last', ({ loss }) => loss)
  gauge('flyweight_training_held_out_loss', 'Its loss on held-out rows', ({ heldOut }) => heldOut.loss)
  gauge('flyweight_training_held_out_accuracy', 'Its share of held-out rows told right, where they have labels', ({ heldOut }) => heldOut.accuracy)
}

/** Delay beyond the timer's period since metrics were last collected. */
function eventLoopGauge(registry: Registry, loop: IntervalHistogram): void {
  new Gauge({
    name: 'flyweight_event_loop_delay_seconds',
    help: 'Delay of the main loop since the last collection',
    labelNames: ['quantile'],
    registers: [registry],
    collect() {
      for (const [quantile, percentile] of [
        ['0.5', 50],
        ['0.99', 99],
      ] as const)
        this.set({ quantile }, loop.count === 0 ? 0 : loop.percentile(percentile) / 1e9)
      loop.reset()
    },
  })
}
