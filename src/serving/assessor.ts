// Judges a request against the moment: what it demands, which queue it belongs to, and whether it can be
// met (admission.ts decides; this file gathers what it decides by). Changes nothing.
import { FlyweightError } from '../errors.js'
import type { Catalog } from '../registry/catalog.js'
import type { Sla } from '../registry/manifest.js'
import type { ModelVersion, Variant } from '../registry/model.js'
import { admit, type Admission } from './admission.js'
import { bucketKey, bucketOf, rowsOf, type Feeds } from './collate.js'
import { considered } from './explain.js'
import type { Bucket } from './latency-book.js'
import type { ModelQueue } from './model-queue.js'
import type { Considered } from './request.js'
import { refusal, type Demand } from './router.js'
import type { Scheduler } from './scheduler.js'

export interface Ask {
  sla: Sla
  /** Name of the only variant allowed. */
  pinned: string | undefined
  /** performance.now() from which the deadline counts. */
  arrivedAt: number
}

export interface Assessment {
  model: ModelVersion
  /** The request's, with the model's defaults filled in. */
  sla: Sla
  demand: Demand
  rows: number
  queue: ModelQueue
  deadline: number
  admission: Admission
}

export class Assessor {
  readonly #catalog: Catalog
  readonly #scheduler: Scheduler

  constructor(catalog: Catalog, scheduler: Scheduler) {
    this.#catalog = catalog
    this.#scheduler = scheduler
  }

  /** @throws FlyweightError `invalid_input` when inputs disagree on their rows, `variant_not_found` for the pinned one */
  assess(model: ModelVersion, inputs: Feeds, ask: Ask): Assessment {
    const bucket = bucketOf(inputs, model.signature, this.#referenceBucket(model))
    return this.#judge(model, this.#scheduler.queue(model, bucket), rowsOf(inputs, model.signature), ask)
  }

  /** The same for a request of `rows` rows of the shape the model was profiled at. @throws FlyweightError `variant_not_found` */
  suppose(model: ModelVersion, rows: number, ask: Ask): Assessment {
    const bucket = this.#referenceBucket(model) ?? { key: '', elementsPerRow: 1, reference: undefined }
    return this.#judge(model, this.#scheduler.queue(model, bucket), rows, ask)
  }

  /** Every variant of the model, and why it was chosen or not. */
  considered({ model, demand, sla, rows, queue, admission }: Assessment): Considered[] {
    const question = { demand, latencyMs: sla.latencyMs, rows, epsilonMs: queue.epsilonMs, admission }
    return considered(this.#variants(model), this.#scheduler.candidates(queue), question)
  }

  /** Why the request cannot be answered for want of room on lanes, where it is that. */
  unfit({ demand, queue }: Assessment): string | undefined {
    const refused = this.#scheduler.candidates(queue).find((candidate) => candidate.unfit !== undefined && refusal(candidate, demand) === candidate.unfit)
    return refused && `${refused.name}: ${refused.unfit}`
  }

  /** Name of the most faithful variant whose own run meets the SLA, loaded or not; else of the fastest permitted. */
  fitting({ model, queue, demand, rows, sla }: Assessment): string | undefined {
    const admission = admit({
      now: 0,
      demand,
      deadline: sla.latencyMs ?? Infinity,
      rows,
      candidates: this.#scheduler.candidates(queue).map((candidate) => ({ ...candidate, loadMs: 0 })),
      laneFreeMs: 0,
      backlogMs: 0,
      epsilonMs: queue.epsilonMs,
    })
    const chosen = admission.kind === 'feasible' ? admission.candidate : admission.fastest
    return this.#variants(model).find(({ id }) => id === chosen?.id)?.name
  }

  #judge(model: ModelVersion, queue: ModelQueue, rows: number, { sla: asked, pinned, arrivedAt }: Ask): Assessment {
    this.#checkPinned(model, pinned)
    const now = performance.now()
    const sla = { ...model.manifest.sla, ...asked }
    const demand: Demand = { minFidelity: sla.minFidelity ?? 0, pinned }
    const deadline = sla.latencyMs === undefined ? Infinity : arrivedAt + sla.latencyMs
    const admission = admit({
      now,
      demand,
      deadline,
      rows,
      candidates: this.#scheduler.candidates(queue),
      laneFreeMs: this.#scheduler.laneFreeMs(now, model),
      backlogMs: this.#scheduler.backlogMs(deadline),
      epsilonMs: queue.epsilonMs,
    })
    return { model, sla, demand, rows, queue, deadline, admission }
  }

  #checkPinned(model: ModelVersion, pinned: string | undefined): void {
    if (pinned === undefined) return
    const variants = this.#variants(model)
    const found = variants.find(({ name }) => name === pinned)
    if (found?.state === 'ready') return
    const why = found === undefined ? `it has ${variants.map(({ name }) => name).join(', ')}` : `it is ${found.state}: ${found.reason}`
    throw new FlyweightError('variant_not_found', `model ${model.name} has no variant "${pinned}" to serve; ${why}`, {
      errors: [{ pointer: '/variant', detail: `got "${pinned}"; ${why}` }],
    })
  }

  /** The shape at which the model was profiled. */
  #referenceBucket(model: ModelVersion): Bucket | undefined {
    const profile = this.#variants(model).find((variant) => variant.profile !== undefined)?.profile
    if (profile === undefined) return undefined
    return { ...bucketKey(model.signature.inputs.map(({ name }) => profile.rowDims[name] ?? [])), reference: undefined }
  }

  #variants(model: ModelVersion): readonly Variant[] {
    return this.#catalog.variants(model.name, model.version)
  }
}
