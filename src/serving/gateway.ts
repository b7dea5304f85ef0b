// The request path: resolve the model, judge the SLA, queue, wait, answer. Reads top to bottom as the
// life of a request; the choices are the policy's (admission.ts, router.ts), the work the scheduler's.
import { FlyweightError, messageOf } from '../errors.js'
import type { Catalog } from '../registry/catalog.js'
import type { Sla } from '../registry/manifest.js'
import type { ModelVersion, Variant } from '../registry/model.js'
import { admit, type Admission } from './admission.js'
import type { BuildPort } from './build-port.js'
import { bucketKey, bucketOf, bytesOf, rowsOf } from './collate.js'
import { considered, summary } from './explain.js'
import type { Bucket, LatencyBook } from './latency-book.js'
import { StatsBook } from './model-stats.js'
import type { Answered, ModelQueue } from './model-queue.js'
import type { ServingObserver, SlaResult } from './observer.js'
import type { CacheSnapshot, InferRequest, InferResult, ModelStats, RouteExplanation } from './request.js'
import type { Demand } from './router.js'
import type { Scheduler } from './scheduler.js'
import type { VariantCache } from './variant-cache.js'

export interface GatewayOptions {
  /** @throws FlyweightError `model_not_found` or `model_not_ready` */
  resolve(name: string, version?: string): ModelVersion
  catalog: Catalog
  cache: VariantCache
  book: LatencyBook
  scheduler: Scheduler
  builds: BuildPort
  observer: ServingObserver
  requestTimeoutMs: number
  waitTimeoutMs: number
}

/** A request, judged. */
interface Judged {
  model: ModelVersion
  sla: Sla
  demand: Demand
  rows: number
  queue: ModelQueue
  deadline: number
  admission: Admission
}

export class Gateway {
  readonly #options: GatewayOptions
  readonly #stats = new StatsBook()
  #draining = false
  #opened = false

  constructor(options: GatewayOptions) {
    this.#options = options
  }

  /**
   * Answers one request with the best variant that meets its SLA.
   * @throws FlyweightError as the table in errors.ts names them; never anything else.
   */
  async infer(request: InferRequest): Promise<InferResult> {
    let judged: Judged | undefined
    try {
      if (this.#draining) throw new FlyweightError('draining', 'the gateway is shutting down', { retryAfterS: 5 })
      judged = this.#judge(request)
      const answer = await this.#obtain(request, judged)
      return this.#answered(request, judged, answer)
    } catch (cause) {
      throw this.#failed(request, judged, cause)
    }
  }

  /** What would happen to a request now, without running anything. */
  explain({
    model: name,
    version,
    sla: asked,
    variant,
    rows = 1,
  }: {
    model: string
    version?: string
    sla: Sla
    variant?: string
    rows?: number
  }): RouteExplanation {
    const model = this.#options.resolve(name, version)
    const now = performance.now()
    const sla = { ...model.manifest.sla, ...asked }
    const queue = this.#options.scheduler.queue(model, this.#referenceBucket(model) ?? { key: '', elementsPerRow: 1, reference: undefined })
    const judged = this.#admission(model, { sla, pinned: variant, rows, queue, arrivedAt: now, now })
    const { admission } = judged
    const chosen = admission.kind === 'feasible' ? admission.candidate : sla.onMiss === 'reject' ? undefined : admission.fastest
    return {
      model: model.name,
      version: model.version,
      sla,
      chosen: chosen?.name,
      reason: summary(admission, sla.latencyMs),
      wouldBuild: admission.kind === 'unmet' && admission.cause === 'speed' ? this.#options.builds.next(model) : undefined,
      considered: this.#considered(judged),
    }
  }

  stats(model?: string, version?: string): ModelStats[] {
    return this.#stats.list(model, version)
  }

  cache(): CacheSnapshot {
    return this.#options.cache.snapshot()
  }

  /** Unloads one variant, or everything that no batch is using; returns the number of sessions released. */
  evict(variantId?: string): Promise<number> {
    return this.#options.cache.evict(({ variant }) => variantId === undefined || variant === variantId, 'manual')
  }

  /** From now on `ready()` is true, until `drain`. */
  open(): void {
    this.#opened = true
  }

  ready(): boolean {
    return this.#opened && !this.#draining
  }

  /** Says not ready; requests are still served. */
  announceDrain(): void {
    this.#opened = false
  }

  /** Refuses new requests and waits for those accepted, at most `timeoutMs`. */
  async drain(timeoutMs: number): Promise<void> {
    this.#draining = true
    const giveUpAt = performance.now() + timeoutMs
    while (this.#options.scheduler.queuedRequests > 0 && performance.now() < giveUpAt) await new Promise((resolve) => setTimeout(resolve, 20))
  }

  #judge(request: InferRequest): Judged {
    const model = this.#options.resolve(request.model, request.version)
    const sla = { ...model.manifest.sla, ...request.sla }
    const rows = rowsOf(request.inputs, model.signature)
    const queue = this.#options.scheduler.queue(model, bucketOf(request.inputs, model.signature, this.#referenceBucket(model)))
    return this.#admission(model, { sla, pinned: request.variant, rows, queue, arrivedAt: request.arrivedAt, now: performance.now() })
  }

  #admission(model: ModelVersion, question: { sla: Sla; pinned: string | undefined; rows: number; queue: ModelQueue; arrivedAt: number; now: number }): Judged {
    const { sla, pinned, rows, queue, arrivedAt, now } = question
    const { scheduler } = this.#options
    this.#checkPinned(model, pinned)
    const demand: Demand = { minFidelity: sla.minFidelity ?? 0, pinned }
    const deadline = sla.latencyMs === undefined ? Infinity : arrivedAt + sla.latencyMs
    const admission = admit({
      now,
      demand,
      deadline,
      rows,
      candidates: scheduler.candidates(queue),
      laneFreeMs: scheduler.laneFreeMs(now),
      backlogMs: scheduler.backlogMs(deadline),
      epsilonMs: queue.epsilonMs,
    })
    return { model, sla, demand, rows, queue, deadline, admission }
  }

  #checkPinned(model: ModelVersion, pinned: string | undefined): void {
    if (pinned === undefined) return
    const variants = this.#options.catalog.variants(model.name, model.version)
    const found = variants.find(({ name }) => name === pinned)
    if (found?.state === 'ready') return
    const why = found === undefined ? `it has ${variants.map(({ name }) => name).join(', ')}` : `it is ${found.state}: ${found.reason}`
    throw new FlyweightError('variant_not_found', `model ${model.name} has no variant "${pinned}" to serve; ${why}`, {
      errors: [{ pointer: '/variant', detail: `got "${pinned}"; ${why}` }],
    })
  }

  async #obtain(request: InferRequest, judged: Judged): Promise<Answered> {
    const { admission, sla } = judged
    if (admission.kind === 'feasible') return this.#enqueue(request, judged, judged.demand, false)
    if (admission.fastest === undefined) throw new FlyweightError('sla_unmet', `no variant of ${request.model} is permitted: ${this.#refusals(judged)}`)
    const build = admission.cause === 'speed' ? this.#startBuild(judged.model) : undefined
    // Whatever happens to this request, the next ones like it should find the fastest variant in memory.
    this.#preload(judged.model, admission.fastest.id)
    switch (sla.onMiss ?? 'degrade') {
      case 'reject':
        throw new FlyweightError('sla_unmet', `${summary(admission, sla.latencyMs)}${build === undefined ? '' : `; ${build.recipe} is being built`}`, {
          retryAfterS: Math.max(1, Math.ceil((admission.retryAfterMs ?? 10_000) / 1000)),
        })
      case 'degrade':
        return this.#enqueue(request, judged, judged.demand, true)
      case 'wait': {
        if (build !== undefined) await this.#waitFor(build.done, request.signal)
        const answer = await this.#enqueue(request, judged, { ...judged.demand, pinned: this.#fitting(judged) }, true)
        return build === undefined ? answer : { ...answer, reason: `waited for ${build.recipe} to be built; ${answer.reason}` }
      }
    }
  }

  /** The most faithful variant whose own run meets the SLA, loaded or not; undefined when there is none. */
  #fitting({ model, queue, demand, rows, sla }: Judged): string | undefined {
    const idle = { now: 0, demand, deadline: sla.latencyMs ?? Infinity, rows, laneFreeMs: 0, backlogMs: 0, epsilonMs: queue.epsilonMs }
    const candidates = this.#options.scheduler.candidates(queue).map((candidate) => ({ ...candidate, loadMs: 0 }))
    const admission = admit({ ...idle, candidates })
    const chosen = admission.kind === 'feasible' ? admission.candidate : admission.fastest
    return this.#options.catalog.variants(model.name, model.version).find(({ id }) => id === chosen?.id)?.name
  }

  #enqueue(request: InferRequest, { queue, sla, rows, deadline }: Judged, demand: Demand, bestEffort: boolean): Promise<Answered> {
    const { scheduler, requestTimeoutMs } = this.#options
    const now = performance.now()
    const { signal } = request
    if (signal.aborted) throw cancelled()
    return new Promise<Answered>((resolve, reject) => {
      const onAbort = () => {
        queue.remove(entry)
        entry.reject(cancelled())
      }
      const settle =
        <Value>(finish: (value: Value) => void) =>
        (value: Value) => {
          signal.removeEventListener('abort', onAbort)
          finish(value)
        }
      const entry = {
        ...demand,
        rows,
        deadline: bestEffort ? Infinity : deadline,
        bestEffort,
        feeds: request.inputs,
        bytes: bytesOf(request.inputs),
        outputs: request.outputs,
        priority: sla.priority ?? 0,
        enqueuedAt: now,
        expiresAt: now + Math.max(requestTimeoutMs, sla.latencyMs ?? 0),
        refuseLate: sla.onMiss === 'reject',
        retries: 0,
        resolve: settle(resolve),
        reject: settle(reject),
      }
      signal.addEventListener('abort', onAbort, { once: true })
      try {
        scheduler.submit(queue, entry)
      } catch (error) {
        entry.reject(error)
      }
    })
  }

  async #waitFor(done: Promise<void>, signal: AbortSignal): Promise<void> {
    let timer: NodeJS.Timeout | undefined
    let leave = () => {}
    const timeout = new Promise<void>((resolve) => (timer = setTimeout(resolve, this.#options.waitTimeoutMs)))
    const left = new Promise<void>((resolve) => (leave = () => resolve()))
    signal.addEventListener('abort', leave)
    await Promise.race([done, timeout, left])
    clearTimeout(timer)
    signal.removeEventListener('abort', leave)
  }

  #startBuild(model: ModelVersion): { recipe: string; done: Promise<void> } | undefined {
    const recipe = this.#options.builds.next(model)
    return recipe === undefined ? undefined : { recipe, done: this.#options.builds.start(model, recipe) }
  }

  #preload(model: ModelVersion, id: string): void {
    const variant = this.#variants(model).find((candidate) => candidate.id === id)
    if (variant !== undefined) this.#options.scheduler.preload(variant)
  }

  #answered(request: InferRequest, judged: Judged, answer: Answered): InferResult {
    const { model, sla, rows } = judged
    const totalMs = performance.now() - request.arrivedAt
    const deadlineMet = sla.latencyMs === undefined || totalMs <= sla.latencyMs
    const { variant, fidelity, queueMs, inferMs, batchSize } = answer
    this.#stats.served(model.name, model.version, { rows, batchSize, queueMs, inferMs, totalMs })
    this.#observe(request, judged, {
      outcome: 'ok',
      variant,
      fidelity,
      queueMs,
      inferMs,
      totalMs,
      sla: sla.latencyMs === undefined ? undefined : deadlineMet ? 'met' : 'missed',
    })
    return {
      id: request.id,
      model: model.name,
      version: model.version,
      variant,
      outputs: request.outputs === undefined ? answer.outputs : Object.fromEntries(request.outputs.map((name) => [name, answer.outputs[name]!])),
      fidelity,
      timing: { queueMs, inferMs, totalMs, batchSize },
      route: { reason: answer.reason, deadlineMet, ...(request.explain ? { considered: this.#considered(judged) } : {}) },
    }
  }

  #failed(request: InferRequest, judged: Judged | undefined, cause: unknown): FlyweightError {
    const error = cause instanceof FlyweightError ? cause : new FlyweightError('internal', messageOf(cause), { cause })
    if (judged === undefined) return error
    const totalMs = performance.now() - request.arrivedAt
    this.#stats.failed(judged.model.name, judged.model.version, totalMs)
    this.#observe(request, judged, {
      outcome: error.code,
      variant: undefined,
      fidelity: undefined,
      queueMs: 0,
      inferMs: 0,
      totalMs,
      sla: judged.sla.latencyMs === undefined ? undefined : 'shed',
    })
    return error
  }

  #observe(
    request: InferRequest,
    { sla, model }: Judged,
    outcome: Omit<Parameters<ServingObserver['requestFinished']>[0], 'model' | 'priority'> & { sla: SlaResult | undefined },
  ): void {
    this.#options.observer.requestFinished({ model: model.name, priority: request.sla.priority ?? sla.priority ?? 0, ...outcome })
  }

  #considered({ model, demand, sla, rows, queue, admission }: Judged) {
    const question = { demand, latencyMs: sla.latencyMs, rows, epsilonMs: queue.epsilonMs, admission }
    return considered(this.#variants(model), this.#options.scheduler.candidates(queue), question)
  }

  #refusals(judged: Judged): string {
    return this.#considered(judged)
      .map(({ variant, reason }) => `${variant}: ${reason}`)
      .join('; ')
  }

  #variants(model: ModelVersion): readonly Variant[] {
    return this.#options.catalog.variants(model.name, model.version)
  }

  /** The shape at which the model was profiled. */
  #referenceBucket(model: ModelVersion): Bucket | undefined {
    const profile = this.#variants(model).find((variant) => variant.profile !== undefined)?.profile
    if (profile === undefined) return undefined
    return { ...bucketKey(model.signature.inputs.map(({ name }) => profile.rowDims[name] ?? [])), reference: undefined }
  }
}

function cancelled(): FlyweightError {
  return new FlyweightError('cancelled', 'the client closed the connection')
}
