// Sharded variants in memory: their stages on devices, and a pipeline over them. All stages or none; a device that is
// lost takes only the variants with it that have a stage there, and they are placed anew when they are loaded again.
import { dirname, join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { FlyweightError, messageOf } from '../errors.js'
import type { Shards } from '../registry/model.js'
import type { DeviceSpec } from '../shard/device-spec.js'
import { Pipeline, type StageRun } from '../shard/pipeline.js'
import { placeStages } from '../shard/placement.js'
import type { StageHost } from '../shard/stage-host.js'
import type { Runner } from './runner.js'

/** shard/stage-devices.ts is it. */
export interface DevicesPort {
  readonly specs: readonly DeviceSpec[]
  live(): DeviceSpec[]
  host(name: string): StageHost | undefined
  fault(name: string): string
  /** Ends a device that hangs; it is opened again. */
  abandon(name: string, reason: string): void
}

export interface PipelinePoolOptions {
  devices: DevicesPort
  /** Micro-batches in flight in one pipeline at most; 0: two for each stage. */
  microBatches: number
  onStageRun(variant: string, run: StageRun): void
  /** The variant left memory with a device; `running` when it had batches in flight there. */
  onLost(variant: string, loss: { device: string; reason: string; running: boolean }): void
  /** A slot became free. */
  onFree(): void
}

interface Loaded {
  /** Of each stage: where, under which key, how many bytes of weights. */
  stages: { host: StageHost; key: string; bytes: number }[]
  pipeline: Pipeline | undefined
  runner: Runner | undefined
  forget: (() => void)[]
}

interface Slot {
  busy: boolean
  /** Predicted; performance.now(). */
  freeAt: number
}

/** Devices that are just being opened, or opened again, are waited for so long. */
const DEVICE_WAIT = { ms: 5000, everyMs: 50 }
/** Runs that a lost device leaves alone get so long to end. */
const DRAIN = { ms: 10_000, everyMs: 20 }

export class PipelinePool {
  readonly #options: PipelinePoolOptions
  readonly #slots: Slot[]
  readonly #loaded = new Map<string, Loaded>()
  /** Not served any more, but still on devices. */
  readonly #leaving = new Set<Loaded>()
  #serial = 0
  #closed = false

  constructor(options: PipelinePoolOptions) {
    this.#options = options
    // As many batches as there can be stages: enough to keep all devices busy.
    this.#slots = options.devices.specs.map(() => ({ busy: false, freeAt: 0 }))
  }

  get count(): number {
    return this.#slots.length
  }

  free(): number[] {
    return this.#slots.flatMap(({ busy }, id) => (busy ? [] : [id]))
  }

  freeInMs(id: number, now: number): number {
    const { busy, freeAt } = this.#slots[id]!
    return busy ? Math.max(0, freeAt - now) : 0
  }

  take(id: number, freeAt: number): void {
    Object.assign(this.#slots[id]!, { busy: true, freeAt })
  }

  give(id: number): void {
    this.#slots[id]!.busy = false
    this.#options.onFree()
  }

  /** Micro-batches under way, by the variant's id. */
  inFlight(): Map<string, number> {
    return new Map([...this.#loaded].map(([variant, { pipeline }]) => [variant, pipeline?.inFlight ?? 0]))
  }

  runner(variant: string): Runner | undefined {
    return this.#loaded.get(variant)?.runner
  }

  /**
   * Loads every stage on a device with room for it, the planned one if possible; all or none.
   * @param file that of the first stage; the others are beside it
   * @throws FlyweightError `out_of_memory` when the devices have no room, `inference_failed` when one is lost meanwhile, else what a load threw
   */
  async load(variant: string, file: string, shards: Shards): Promise<{ loadMs: number }> {
    const start = performance.now()
    const hosts = await this.#place(shards)
    const generation = this.#serial++
    const stages = hosts.map((host, stage) => ({ host, key: `${variant}/${stage}#${generation}`, bytes: shards.plan.stages[stage]!.weightBytes }))
    const entry: Loaded = { stages, pipeline: undefined, runner: undefined, forget: [] }
    this.#loaded.set(variant, entry)
    const files = shards.stages.map((stage) => join(dirname(file), stage.file))
    const results = await Promise.allSettled(stages.map(({ host, key }, stage) => host.load(key, files[stage]!)))
    const failure = results.find((result) => result.status === 'rejected')
    if (failure !== undefined || this.#loaded.get(variant) !== entry) {
      await this.#leave(variant, entry)
      throw failure?.reason ?? new FlyweightError('inference_failed', `${variant} was given up while it was loaded`)
    }
    const { microBatches } = this.#options
    const pipeline = new Pipeline({
      stages: stages.map(({ host, key }, stage) => ({ host, key, inputs: shards.stages[stage]!.inputs, outputs: shards.stages[stage]!.outputs })),
      inputs: shards.inputs,
      outputs: shards.outputs,
      batchable: shards.batchable,
      microBatch: shards.microBatch,
      ...(microBatches === 0 ? {} : { inFlight: microBatches }),
      onStageRun: (run) => this.#options.onStageRun(variant, run),
    })
    entry.pipeline = pipeline
    entry.runner = { run: (_key, feeds, fetches) => pipeline.run(feeds, fetches) }
    for (const host of new Set(hosts)) entry.forget.push(host.onLost((reason) => this.#lose(variant, entry, { device: host.name, reason })))
    if (this.#loaded.get(variant) !== entry) throw new FlyweightError('inference_failed', `a device of ${variant} was lost while it was loaded`)
    return { loadMs: performance.now() - start }
  }

  async unload(variant: string): Promise<void> {
    const entry = this.#loaded.get(variant)
    if (entry !== undefined) await this.#leave(variant, entry)
  }

  abandon(variant: string, reason: string): void {
    const hosts = new Set(this.#loaded.get(variant)?.stages.map(({ host }) => host))
    for (const [id, entry] of [...this.#loaded]) {
      const shared = entry.stages.find(({ host }) => hosts.has(host))
      if (shared !== undefined) this.#lose(id, entry, { device: shared.host.name, reason })
    }
    for (const { name } of hosts) this.#options.devices.abandon(name, reason)
  }

  /** Rejects what runs. The devices are their owner's. */
  close(): void {
    this.#closed = true
    for (const { pipeline, forget } of [...this.#loaded.values(), ...this.#leaving]) {
      for (const each of forget) each()
      pipeline?.close()
    }
    this.#loaded.clear()
  }

  #lose(variant: string, entry: Loaded, loss: { device: string; reason: string }): void {
    if (this.#loaded.get(variant) !== entry) return
    const running = (entry.pipeline?.inFlight ?? 0) > 0
    void this.#leave(variant, entry)
    this.#options.onLost(variant, { ...loss, running })
  }

  /** Takes it out of service at once, and off its devices when what runs there has ended. */
  async #leave(variant: string, entry: Loaded): Promise<void> {
    if (this.#loaded.get(variant) === entry) this.#loaded.delete(variant)
    if (this.#leaving.has(entry)) return
    this.#leaving.add(entry)
    for (let waited = 0; (entry.pipeline?.inFlight ?? 0) > 0 && waited < DRAIN.ms && !this.#closed; waited += DRAIN.everyMs) await wait(DRAIN.everyMs)
    for (const each of entry.forget) each()
    entry.pipeline?.close()
    // A device that is gone has released everything.
    await Promise.all(entry.stages.map(({ host, key }) => host.unload(key).catch(() => undefined)))
    this.#leaving.delete(entry)
  }

  async #place(shards: Shards): Promise<StageHost[]> {
    const { devices } = this.#options
    for (let waited = 0; ; waited += DEVICE_WAIT.everyMs) {
      const placed = this.#tryPlace(shards, devices.live())
      const hosts = placed.kind === 'placed' ? placed.names.map((name) => devices.host(name)) : []
      if (placed.kind === 'placed' && hosts.every((host) => host !== undefined)) return hosts
      const reason = placed.kind === 'placed' ? 'a device went away' : placed.reason
      // Only devices that are not there now could help.
      if (this.#closed || waited >= DEVICE_WAIT.ms || this.#tryPlace(shards, devices.specs).kind === 'full') {
        const gone = devices.specs.flatMap(({ name }) => (devices.fault(name) === '' ? [] : [`${name} is not there: ${devices.fault(name)}`]))
        throw new FlyweightError('out_of_memory', [reason, ...gone].join('; '))
      }
      await wait(DEVICE_WAIT.everyMs)
    }
  }

  #tryPlace({ plan }: Shards, specs: readonly DeviceSpec[]): { kind: 'placed'; names: string[] } | { kind: 'full'; reason: string } {
    const demands = plan.stages.map(({ weightBytes, computeMs, device }) => ({ bytes: weightBytes, ms: computeMs, planned: device }))
    const rooms = specs.map(({ name, budgetBytes }) => ({ name, heldBytes: this.#heldOn(name), ...(budgetBytes === undefined ? {} : { budgetBytes }) }))
    try {
      return { kind: 'placed', names: placeStages(demands, rooms) }
    } catch (error) {
      return { kind: 'full', reason: messageOf(error) }
    }
  }

  #heldOn(device: string): number {
    const stages = [...this.#loaded.values(), ...this.#leaving].flatMap((entry) => entry.stages)
    return stages.reduce((sum, { host, bytes }) => (host.name === device ? sum + bytes : sum), 0)
  }
}
