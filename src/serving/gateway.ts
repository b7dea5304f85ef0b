// The request path: resolve the model, judge the SLA, queue, wait, answer. Reads top to bottom as the
// life of a request; the choices are the policy's (admission.ts, router.ts), the work the scheduler's.
import { FlyweightError, messageOf } from '../errors.js'
import type { Catalog } from '../registry/catalog.js'
import type { Sla } from '../registry/manifest.js'
import type { ModelVersion } from '../registry/model.js'
import { Assessor, type Assessment } from './assessor.js'
import type { BuildPort } from './build-port.js'
import { bytesOf } from './collate.js'
import { summary } from './explain.js'
import { StatsBook } from './model-stats.js'
import type { Answered, Entry } from './model-queue.js'
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
  scheduler: Scheduler
  builds: BuildPort
  observer: ServingObserver
  /** Gets the inputs of every request that was answered; must not throw, and copies what it keeps. */
  capture?: (model: ModelVersion, inputs: InferRequest['inputs']) => void
  requestTimeoutMs: number
  waitTimeoutMs: number
}

export interface Question {
  model: string
  version?: string
  sla: Sla
  variant?: string
  rows?: number
}

export class Gateway {
  readonly #options: GatewayOptions
  readonly #stats = new StatsBook()
  readonly #assessor: Assessor
  #draining = false
  /** Requests accepted and not answered, waiting for a build or in a queue. */
  #accepted = 0
  readonly #drain = new AbortController()
  #opened = false

  constructor(options: GatewayOptions) {
    this.#options = options
    this.#assessor = new Assessor(options.catalog, options.scheduler)
  }

  /**
   * Answers one request with the best variant that meets its SLA.
   * @throws FlyweightError as the table in errors.ts names them; never anything else.
   */
  async infer(request: InferRequest): Promise<InferResult> {
    let judged: Assessment | undefined
    this.#accepted += 1
    try {
      if (this.#draining) throw new FlyweightError('draining', 'the gateway is shutting down', { retryAfterS: 5 })
      const { model, version, inputs, sla, variant, arrivedAt } = request
      judged = this.#assessor.assess(this.#options.resolve(model, version), inputs, { sla, pinned: variant, arrivedAt })
      const answer = await this.#obtain(request, judged)
      return this.#answered(request, judged, answer)
    } catch (cause) {
      throw this.#failed(request, judged, cause)
    } finally {
      this.#accepted -= 1
    }
  }

  /** What would happen to a request now, without running anything. */
  explain(question: Question): RouteExplanation {
    const model = this.#options.resolve(question.model, question.version)
    const ask = { sla: question.sla, pinned: question.variant, arrivedAt: performance.now() }
    const judged = this.#assessor.suppose(model, question.rows ?? 1, ask)
    const { admission, sla } = judged
    const chosen = admission.kind === 'feasible' ? admission.candidate : sla.onMiss === 'reject' ? undefined : admission.fastest
    return {
      model: model.name,
      version: model.version,
      sla,
      chosen: chosen?.name,
      reason: summary(admission, sla.latencyMs),
      wouldBuild: admission.kind === 'unmet' && admission.cause === 'speed' ? this.#options.builds.next(model) : undefined,
      considered: this.#assessor.considered(judged),
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

  /** Refuses new requests and waits for those accepted, at most `timeoutMs`; who waits for a build is answered without it. */
  async drain(timeoutMs: number): Promise<void> {
    this.#draining = true
    this.#drain.abort()
    const giveUpAt = performance.now() + timeoutMs
    while (this.#accepted > 0 && performance.now() < giveUpAt) await new Promise((resolve) => setTimeout(resolve, 20))
  }

  async #obtain(request: InferRequest, judged: Assessment): Promise<Answered> {
    const { admission, sla } = judged
    if (admission.kind === 'feasible') return this.#enqueue(request, judged, judged.demand, false)
    const unfit = admission.fastest === undefined ? this.#assessor.unfit(judged) : undefined
    if (unfit !== undefined) throw new FlyweightError('out_of_memory', `no variant of ${request.model} fits a lane; ${unfit}`)
    if (admission.fastest === undefined) throw new FlyweightError('sla_unmet', `no variant of ${request.model} is permitted: ${this.#refusals(judged)}`)
    const build = admission.cause === 'speed' ? this.#startBuild(judged.model) : undefined
    // Whatever happens to this request, the next ones like it should find the fastest variant in memory.
    this.#preload(admission.fastest.id)
    switch (sla.onMiss ?? 'degrade') {
      case 'reject':
        throw new FlyweightError('sla_unmet', `${summary(admission, sla.latencyMs)}${build === undefined ? '' : `; ${build.recipe} is being built`}`, {
          retryAfterS: Math.max(1, Math.ceil((admission.retryAfterMs ?? 10_000) / 1000)),
        })
      case 'degrade':
        return this.#enqueue(request, judged, judged.demand, true)
      case 'wait': {
        if (build !== undefined) await this.#waitFor(build.done, request.signal)
        const answer = await this.#enqueue(request, judged, { ...judged.demand, pinned: this.#assessor.fitting(judged) }, true)
        return build === undefined ? answer : { ...answer, reason: `waited for ${build.recipe} to be built; ${answer.reason}` }
      }
    }
  }

  #enqueue(request: InferRequest, { queue, sla, rows, deadline, admission }: Assessment, demand: Demand, bestEffort: boolean): Promise<Answered> {
    const { scheduler, requestTimeoutMs } = this.#options
    const now = performance.now()
    const { signal } = request
    if (signal.aborted) throw cancelled()
    return new Promise<Answered>((resolve, reject) => {
      const onAbort = () => {
        scheduler.withdraw(queue, entry)
        entry.reject(cancelled())
      }
      const settle =
        <Value>(finish: (value: Value) => void) =>
        (value: Value) => {
          signal.removeEventListener('abort', onAbort)
          finish(value)
        }
      const entry: Entry = {
        ...demand,
        rows,
        deadline: bestEffort ? Infinity : deadline,
        bestEffort,
        displaced: bestEffort && admission.kind === 'unmet' && admission.cause === 'backlog',
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
        entry.reject(error as FlyweightError)
      }
    })
  }

  async #waitFor(done: Promise<void>, signal: AbortSignal): Promise<void> {
    let timer: NodeJS.Timeout | undefined
    let leave = () => {}
    const timeout = new Promise<void>((resolve) => (timer = setTimeout(resolve, this.#options.waitTimeoutMs)))
    const left = new Promise<void>((resolve) => (leave = () => resolve()))
    const signals = [signal, this.#drain.signal]
    for (const each of signals) each.addEventListener('abort', leave)
    if (!signals.some(({ aborted }) => aborted)) await Promise.race([done, timeout, left])
    clearTimeout(timer)
    for (const each of signals) each.removeEventListener('abort', leave)
  }

  #startBuild(model: ModelVersion): { recipe: string; done: Promise<void> } | undefined {
    const recipe = this.#options.scheduler.isCrowded ? undefined : this.#options.builds.next(model)
    return recipe === undefined ? undefined : { recipe, done: this.#options.builds.start(model, recipe) }
  }

  #preload(id: string): void {
    const variant = this.#options.catalog.variant(id)
    if (variant !== undefined) this.#options.scheduler.preload(variant)
  }

  #answered(request: InferRequest, judged: Assessment, answer: Answered): InferResult {
    const { model, sla, rows } = judged
    const totalMs = performance.now() - request.arrivedAt
    const deadlineMet = sla.latencyMs === undefined || totalMs <= sla.latencyMs
    const { variant, fidelity, queueMs, inferMs, batchSize } = answer
    this.#options.capture?.(model, request.inputs)
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
      release: answer.release,
      fidelity,
      timing: { queueMs, inferMs, totalMs, batchSize },
      route: { reason: answer.reason, deadlineMet, ...(request.explain ? { considered: this.#assessor.considered(judged) } : {}) },
    }
  }

  #failed(request: InferRequest, judged: Assessment | undefined, cause: unknown): FlyweightError {
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

  #refusals(judged: Assessment): string {
    return this.#assessor
      .considered(judged)
      .map(({ variant, reason }) => `${variant}: ${reason}`)
      .join('; ')
  }

  #observe(
    request: InferRequest,
    { sla, model }: Assessment,
    outcome: Omit<Parameters<ServingObserver['requestFinished']>[0], 'model' | 'priority'> & { sla: SlaResult | undefined },
  ): void {
    this.#options.observer.requestFinished({ model: model.name, priority: request.sla.priority ?? sla.priority ?? 0, ...outcome })
  }
}

function cancelled(): FlyweightError {
  return new FlyweightError('cancelled', 'the client closed the connection')
}
