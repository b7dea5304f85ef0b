// From a wish to train to a job: which model, which rows, which settings. What the job does is train-job.ts's.
import { createHash } from 'node:crypto'
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { CurvePoint } from '../measurements.js'
import type { ModelVersion } from '../registry/model.js'
import { isModelName } from '../registry/model-folder.js'
import { optionError } from '../train/options.js'
import { completeSettings } from '../train/settings.js'
import { completeStudent } from '../train/students.js'
import type { Job, JobQueue } from './queue.js'
import type { FoundStudent } from './students.js'
import type { TrainJobResult, TrainPayload } from './train-job.js'

/** A training that somebody wants. */
export interface TrainingWish {
  model: string
  version?: string
  /** `samples` (default), `captured`, or the name of a file or folder among the datasets. */
  data?: string
  /** With a student (train/students.ts) that learns from the model; without, the model itself is trained further. */
  student?: unknown
  settings?: unknown
  /** Name of the model that the result becomes a version of. */
  as?: string
}

export interface TrainingsOptions {
  jobs: JobQueue
  resolve(name: string, version?: string): ModelVersion
  captured(model: ModelVersion): string | undefined
  threads: number
  storeRoot: string
  /** Whether workers of other machines can join. */
  groups: boolean
  /** Folder of the datasets that wishes may name. */
  datasets: string
}

const DATA_NAME = /^[\w][\w.-]{0,199}$/

export class Trainings {
  readonly #options: TrainingsOptions

  constructor(options: TrainingsOptions) {
    this.#options = options
  }

  /**
   * Starts a training; one that is queued or running already is returned as it is.
   * @throws FlyweightError `model_not_found`, `model_not_ready`, or `invalid_input` naming the field
   */
  async start(wish: TrainingWish, options: { idempotencyKey?: string } = {}): Promise<Job> {
    const { jobs, resolve, threads, storeRoot } = this.#options
    const model = resolve(wish.model, wish.version)
    const student = wish.student === undefined ? undefined : this.#studentOf(wish.student)
    const as = wish.as ?? (student === undefined ? model.name : `${model.name}-student`)
    if (!isModelName(as)) throw optionError('/as', `got ${JSON.stringify(as)}, expected letters, digits, ".", "_" and "-", at most 100`)
    const settings = completeSettings(wish.settings ?? {})
    const { group } = settings.parallel
    if (group !== undefined && !this.#options.groups)
      throw optionError(
        '/training/parallel/group',
        `got "${group}", but the gateway has no Redis that workers join through: training.redis of its configuration`,
      )
    const payload: TrainPayload = {
      model: model.name,
      version: model.version,
      sourceFile: model.file,
      sourceDigest: model.digest,
      signature: model.signature,
      data: await this.#dataOf(model, wish.data ?? 'samples'),
      ...(student === undefined ? {} : { student }),
      settings,
      as,
      threads,
      storeRoot,
    }
    const key = `train:${createHash('sha256').update(JSON.stringify(payload)).digest('hex')}`
    return jobs.submit('train', payload, { key, ...options })
  }

  #studentOf(given: unknown): FoundStudent {
    const student = completeStudent(given)
    if (student.kind !== 'model') return student
    const { file, digest } = this.#options.resolve(student.model, student.version)
    return { kind: 'file', file, digest }
  }

  async #dataOf(model: ModelVersion, name: string): Promise<string> {
    const { captured, datasets } = this.#options
    if (name === 'samples') {
      if (model.samples === undefined) throw optionError('/data', `model ${model.name} has no samples, expected the name of a dataset in ${datasets}`)
      return model.samples
    }
    if (name === 'captured') {
      const rows = captured(model)
      if (rows === undefined) throw optionError('/data', `no traffic of model ${model.name} was captured: its model.yaml has to ask for it`)
      return rows
    }
    const path = join(datasets, name)
    const found = DATA_NAME.test(name) && (await stat(path).catch(() => undefined)) !== undefined
    if (!found) throw optionError('/data', `got ${JSON.stringify(name)}, expected samples, captured, or the name of a file or folder in ${datasets}`)
    return path
  }
}

/** The last point of the newest training of each model that has one, by the model's name. */
export function lastPoints(jobs: Pick<JobQueue, 'list'>): Map<string, CurvePoint> {
  const points = new Map<string, CurvePoint>()
  for (const { payload, result } of jobs.list({ kind: 'train' })) {
    const point = (result as Partial<TrainJobResult> | undefined)?.curve?.at(-1)
    const { as } = payload as TrainPayload
    if (point !== undefined && !points.has(as)) points.set(as, point)
  }
  return points
}
