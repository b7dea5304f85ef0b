// The composition root: the only place where objects are wired together. Read it to see what Flyweight
// is made of; each part explains itself in its own file.
import { mkdir, readFile } from 'node:fs/promises'
import type { AddressInfo } from 'node:net'
import { join, resolve } from 'node:path'
import type { FastifyBaseLogger, FastifyInstance } from 'fastify'
import { createServing, createStageDevices } from './app/serving.js'
import type { Config } from './config.js'
import { buildGrpcServer } from './grpc/server.js'
import { StageNode } from './grpc/stage-node.js'
import { buildServer } from './http/server.js'
import { Builds } from './jobs/builds.js'
import type { CompressResult } from './jobs/compress-job.js'
import { applyNews, applyResult, takeTrained } from './jobs/outcomes.js'
import { JobRunner } from './jobs/runner.js'
import type { SearchNews } from './jobs/search-job.js'
import type { TrainJobResult } from './jobs/train-job.js'
import { Shardings } from './jobs/shardings.js'
import { lastPoints, Trainings } from './jobs/trainings.js'
import { SqliteQueue } from './jobs/sqlite-queue.js'
import { ArtifactStore } from './registry/artifact-store.js'
import { Catalog } from './registry/catalog.js'
import type { ModelVersion, Variant } from './registry/model.js'
import { Repository } from './registry/repository.js'
import { TrafficCapture } from './registry/traffic-capture.js'
import { machineFingerprint } from './runtime/devices.js'
import { inspectModel } from './runtime/probation.js'
import { runtimeVersion } from './runtime/session.js'
import { bucketKey } from './serving/collate.js'
import type { Gateway } from './serving/gateway.js'
import { LocalHost } from './shard/local-host.js'
import { createLogger } from './telemetry/logging.js'
import { createMetrics, type Metrics } from './telemetry/metrics.js'

export interface App {
  server: FastifyInstance
  gateway: Gateway
  repository: Repository
  catalog: Catalog
  jobs: SqliteQueue
  /** Settles when every model found at start was tried. */
  ready: Promise<void>
  /** Starts listening; resolves to the address, e.g. `http://127.0.0.1:8080`. */
  listen(): Promise<string>
  address(): string
  /** Port of the gRPC server; undefined when there is none or it does not listen yet. */
  grpcPort(): number | undefined
  /** Drains and closes everything. `graceMs` overrides how long `/readyz` says 503 before new requests are refused. */
  close(options?: { graceMs?: number | undefined }): Promise<void>
}

/** Builds a gateway from a configuration; nothing listens until `listen()`. */
export async function createApp(config: Config, { logger = createLogger(config.log) }: { logger?: FastifyBaseLogger } = {}): Promise<App> {
  const dataRoot = resolve(config.data.directory)
  await mkdir(dataRoot, { recursive: true })
  const version = await packageVersion()
  const { device, threadsPerLane: threads } = config.serving
  const machine = machineFingerprint(device, threads)

  const store = new ArtifactStore(dataRoot)
  const catalog = new Catalog(join(dataRoot, 'catalog.db'), { machine, warn: (message) => logger.warn(message) })
  const jobs = new SqliteQueue(join(dataRoot, 'jobs.db'))
  const metrics = createMetrics({
    build: { version, runtime: runtimeVersion, node: process.version },
    gauges: {
      queuedJobs: () => jobs.list({ state: 'queued' }).length,
      runningJobs: () => jobs.list({ state: 'running' }).length,
      variants: () => countBy(catalog.allVariants(), ({ state }) => state),
      trainings: () => lastPoints(jobs),
      pipelines: () => pipelines.inFlight(),
    },
  })
  const repository = new Repository({ root: resolve(config.models.directory), watch: config.models.watch, store, catalog, inspect: inspectModel, log: logger })
  const resolveModel = (name: string, wanted?: string) => repository.resolve(name, wanted)
  const environment = {
    device,
    threads,
    machine,
    batches: config.jobs.profileBatches,
    profileBudgetMs: config.jobs.profileBudgetMs,
    storeRoot: dataRoot,
  }
  const capture = new TrafficCapture({ root: join(dataRoot, 'capture'), observer: metrics, warn: (fields, message) => logger.warn(fields, message) })
  const builds = new Builds({ jobs, catalog, resolve: resolveModel, environment, captured: (model) => capture.rowsOf(model) })
  const devices = createStageDevices(config, { logger, metrics })
  const { gateway, scheduler, lanes, pipelines, cache, book } = createServing({
    config,
    store,
    catalog,
    metrics,
    builds,
    capture,
    devices,
    resolve: resolveModel,
  })
  const runner = new JobRunner({
    queue: jobs,
    concurrency: config.jobs.concurrency,
    memoryBytes: config.jobs.memoryBytes,
    timeoutMs: config.jobs.timeoutMs,
    redis: config.training.redis || undefined,
    log: logger,
    apply: (job, result) => {
      if (job.kind === 'train') return takeTrained(repository, result as TrainJobResult)
      applyResult(catalog, job, result)
      return result
    },
    applyNews: (job, news) => {
      if (job.kind === 'search') applyNews(catalog, job, news as SearchNews)
    },
  })
  const trainings = new Trainings({
    jobs,
    resolve: resolveModel,
    captured: (model) => capture.rowsOf(model),
    threads,
    storeRoot: dataRoot,
    groups: config.training.redis !== '',
    datasets: join(dataRoot, 'datasets'),
  })
  const shardings = new Shardings({
    jobs,
    catalog,
    resolve: resolveModel,
    subject: (model) => builds.subject(model),
    devices: devices.specs,
    profileBudgetMs: config.jobs.profileBudgetMs,
    kserveRoot: join(dataRoot, 'kserve'),
  })
  const services = { gateway, repository, catalog, jobs, store, builds, trainings, shardings, capture, metrics, config, logger, version }
  const server = buildServer(services)
  const grpc =
    config.server.grpcPort < 0
      ? undefined
      : buildGrpcServer({
          ...services,
          stages: new StageNode({
            store,
            key: config.sharding.key,
            maxStageBytes: config.server.maxModelBytes,
            openHost: () => new LocalHost({ device: device === 'cpu' ? 'cpu:0' : device, threads }),
          }),
        })
  let grpcPort: number | undefined

  const seed = (variant: Variant, model: ModelVersion) => {
    if (variant.profile === undefined) return
    book.seed(variant.id, bucketKey(model.signature.inputs.map(({ name }) => variant.profile?.rowDims[name] ?? [])).key, variant.profile)
  }
  repository.on('ready', (model) => {
    gateway.open()
    capture.follow(model)
    const variants = catalog.variants(model.name, model.version)
    for (const variant of variants) seed(variant, model)
    if (variants.some(({ source, profile }) => source && profile === undefined)) builds.profileModel(model)
  })
  repository.on('gone', (model) => void cache.evict((placement) => placement.variant.startsWith(`${model.name}:${model.version}:`), 'unloaded'))
  catalog.onChange(({ id, variant }) => {
    if (variant === undefined) {
      book.forget(id)
      void cache.evict((placement) => placement.variant === id, 'unloaded')
      return
    }
    const model = repository.versions(variant.model).find((served) => served.version === variant.version)
    if (model !== undefined) seed(variant, model)
    cache.setPinned(id, variant.pinned)
  })
  watchJobs(jobs, metrics)

  const { idleUnloadMs } = config.serving
  const idle =
    idleUnloadMs === 0 ? undefined : setInterval(() => void cache.evictIdle(performance.now() - idleUnloadMs), Math.min(idleUnloadMs, 30_000)).unref()
  await repository.start()
  const ready = repository.ready.then(() => gateway.open())
  runner.start()

  const close = async ({ graceMs = config.server.drainGraceMs }: { graceMs?: number | undefined } = {}) => {
    gateway.announceDrain()
    await new Promise((done) => setTimeout(done, graceMs))
    await gateway.drain(config.server.drainTimeoutMs)
    clearInterval(idle)
    scheduler.close()
    await Promise.all([server.close(), grpc?.close(), runner.stop(), repository.close()])
    pipelines.close()
    await Promise.all([lanes.close(), devices.close(), capture.flush()])
    jobs.close()
    catalog.close()
    metrics.close()
  }
  let closing: Promise<void> | undefined
  const address = () => {
    const bound = server.addresses()[0] as AddressInfo | undefined
    return bound === undefined ? '' : `http://${bound.family === 'IPv6' ? `[${bound.address}]` : bound.address}:${bound.port}`
  }
  return {
    server,
    gateway,
    repository,
    catalog,
    jobs,
    ready,
    listen: async () => {
      const { host, port } = config.server
      await server.listen({ host, port })
      grpcPort = await grpc?.listen(host, config.server.grpcPort)
      return address()
    },
    address,
    grpcPort: () => grpcPort,
    close: (options) => (closing ??= close(options)),
  }
}

function watchJobs(jobs: SqliteQueue, metrics: Metrics): void {
  jobs.watch('*', ({ kind, state, startedAt, finishedAt, result }) => {
    if (state === 'queued' || state === 'running') return
    const seconds = startedAt === undefined || finishedAt === undefined ? 0 : (Date.parse(finishedAt) - Date.parse(startedAt)) / 1000
    const passes = (result as Partial<CompressResult> | undefined)?.report?.passes
    metrics.jobFinished({ kind, state, seconds, ...(passes === undefined ? {} : { passes }) })
  })
}

function countBy<Item>(items: readonly Item[], keyOf: (item: Item) => string): Record<string, number> {
  const counts: Record<string, number> = {}
  for (const item of items) counts[keyOf(item)] = (counts[keyOf(item)] ?? 0) + 1
  return counts
}

async function packageVersion(): Promise<string> {
  const { version } = JSON.parse(await readFile(new URL('../package.json', import.meta.url), 'utf8')) as { version: string }
  return version
}
