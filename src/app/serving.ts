// The composition root's part for serving: lanes, devices for stages, what is in memory on them, and the request path.
import { totalmem } from 'node:os'
import { basename, dirname } from 'node:path'
import type { Config } from '../config.js'
import { FlyweightError } from '../errors.js'
import { RemoteHost, REMOTE_SCHEME } from '../grpc/remote-host.js'
import type { Builds } from '../jobs/builds.js'
import type { ArtifactStore } from '../registry/artifact-store.js'
import type { Catalog } from '../registry/catalog.js'
import type { ModelVersion, Shards } from '../registry/model.js'
import type { TrafficCapture } from '../registry/traffic-capture.js'
import { Executor } from '../serving/executor.js'
import { Gateway } from '../serving/gateway.js'
import { LanePool } from '../serving/lane-pool.js'
import { LatencyBook } from '../serving/latency-book.js'
import { PipelinePool, type DevicesPort } from '../serving/pipeline-pool.js'
import { Scheduler } from '../serving/scheduler.js'
import { Slots } from '../serving/slots.js'
import { VariantCache, type Placement } from '../serving/variant-cache.js'
import { parseDevices, type DeviceSpec } from '../shard/device-spec.js'
import { LocalHost } from '../shard/local-host.js'
import { StageDevices } from '../shard/stage-devices.js'
import type { Metrics } from '../telemetry/metrics.js'

export interface ServingParts {
  config: Config
  store: ArtifactStore
  catalog: Catalog
  metrics: Metrics
  builds: Builds
  capture: TrafficCapture
  devices: DevicesPort
  resolve(name: string, version?: string): ModelVersion
}

export function createServing({ config, store, catalog, metrics, builds, capture, devices, resolve: resolveModel }: ServingParts) {
  const { serving } = config
  const book = new LatencyBook()
  const budgetBytes = serving.memoryBudgetBytes || Math.floor(Math.min(totalmem(), process.constrainedMemory() || Infinity) / 2)
  const cache: VariantCache = new VariantCache(budgetBytes, {
    load: async (placement) => {
      const { variant, lane, file, shards } = placement
      if (shards !== undefined) return loadStages(placement, shards)
      const worker = lanes.lane(lane)
      if (worker === undefined) throw new Error(`lane ${lane} is gone`)
      return store.withPlainFile(basename(dirname(file)), (plain) => worker.load(variant, plain))
    },
    unload: async ({ variant, lane, shards }) => (shards === undefined ? lanes.lane(lane)?.unload(variant) : pipelines.unload(variant)),
    loaded: ({ model, variant, lane, bytes }, loadMs) => {
      metrics.variantLoaded({ model, variant: nameIn(variant), lane, loadMs, bytes })
      metrics.memory(cache.residentBytes, budgetBytes)
    },
    evicted: ({ model, variant, lane, bytes }, reason) => {
      metrics.variantEvicted({ model, variant: nameIn(variant), lane, bytes, reason })
      metrics.memory(cache.residentBytes, budgetBytes)
    },
  })
  const lanes: LanePool = new LanePool({
    count: serving.lanes,
    device: serving.device,
    threads: serving.threadsPerLane,
    onLost: (lane, reason) => {
      cache.lose((placement) => placement.lane === lane)
      metrics.laneRestarted(lane, reason)
    },
    onFree: () => scheduler.wake(),
  })
  const pipelines: PipelinePool = new PipelinePool({
    devices,
    microBatches: config.sharding.microBatches,
    onStageRun: (id, { host, ...run }) => metrics.stageRan({ ...run, model: id.slice(0, id.indexOf(':')), variant: nameIn(id), device: host }),
    onLost: (id, { device, running }) => {
      cache.lose((placement) => placement.variant === id && placement.shards !== undefined)
      const variant = catalog.variant(id)
      // A node may go away for reasons of its own; a thread of this process does not.
      if (running && variant !== undefined && !device.startsWith(REMOTE_SCHEME)) executor.blame(variant)
    },
    onFree: () => scheduler.wake(),
  })
  /** Devices may be full of sharded variants that nothing uses now. */
  const loadStages = async ({ variant, lane, file }: Placement, shards: Shards) => {
    try {
      return await pipelines.load(variant, file, shards)
    } catch (error) {
      const full = error instanceof FlyweightError && error.code === 'out_of_memory'
      if (!full || (await cache.evict((other) => other.lane === lane && !other.pinned, 'budget')) === 0) throw error
      return pipelines.load(variant, file, shards)
    }
  }
  const slots = new Slots(lanes, pipelines)
  const executor = new Executor({
    slots,
    cache,
    book,
    observer: metrics,
    runTimeoutMs: serving.runTimeoutMs,
    setState: ({ id }, state, reason) => catalog.setState(id, state, reason),
  })
  const scheduler: Scheduler = new Scheduler({
    slots,
    cache,
    book,
    executor,
    observer: metrics,
    limits: serving,
    variants: ({ name, version }) => catalog.variants(name, version),
  })
  metrics.memory(0, budgetBytes)
  const gateway = new Gateway({
    resolve: resolveModel,
    catalog,
    cache,
    scheduler,
    builds,
    observer: metrics,
    capture: (model, inputs) => capture.offer(model, inputs),
    requestTimeoutMs: serving.requestTimeoutMs,
    waitTimeoutMs: serving.waitTimeoutMs,
  })
  return { gateway, scheduler, lanes, pipelines, cache, book }
}

type DeviceLog = Record<'info' | 'warn', (fields: object, message: string) => void>

/** Threads of this process and nodes elsewhere, as they are needed. */
export function createStageDevices(config: Config, { logger, metrics }: { logger: DeviceLog; metrics: Metrics }): StageDevices {
  const threads = config.serving.threadsPerLane
  return new StageDevices({
    devices: stageDevices(config),
    open: async (name) =>
      name.startsWith(REMOTE_SCHEME) ? RemoteHost.connect({ device: name, key: config.sharding.key }) : new LocalHost({ device: name, threads }),
    onOpened: ({ name }) => logger.info({ device: name }, 'device for stages is there'),
    onLost: (name, reason) => {
      logger.warn({ device: name, reason }, 'device for stages is lost')
      metrics.deviceLost(name)
    },
  })
}

/** Those configured, or processor threads as many as lanes. */
function stageDevices({ sharding, serving }: Config): DeviceSpec[] {
  const named = sharding.devices.length > 0 ? sharding.devices : Array.from({ length: Math.max(2, serving.lanes) }, (_, id) => `cpu:${id}`)
  return parseDevices(named).map(({ name, budgetBytes = serving.laneBudgetBytes || undefined }) => ({ name, budgetBytes }))
}

/** `model:version:name` → `name`. */
function nameIn(variantId: string): string {
  return variantId.slice(variantId.lastIndexOf(':') + 1)
}
