// The training job: trains a model further on labels, or a student on a teacher's answers, and hands over the model that
// did best on held-out rows. Runs in a job process; how training works is train/'s business, what becomes of the model
// app.ts's. It goes on from its checkpoint where an earlier process was killed.
import { createHash } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { openGroup } from '../cluster/group.js'
import { FlyweightError } from '../errors.js'
import type { CurvePoint, Evaluation } from '../measurements.js'
import { loadModel, saveModel } from '../onnx/load.js'
import { ArtifactStore } from '../registry/artifact-store.js'
import type { Signature } from '../registry/model.js'
import { loadSamples } from '../registry/samples.js'
import { loadCheckpoint, removeCheckpoint, saveCheckpoint } from '../train/checkpoint.js'
import type { FitNews } from '../train/fit.js'
import { runTraining } from '../train/training.js'
import type { TrainingSettings } from '../train/settings.js'
import type { JobContext } from './job-context.js'
import { makeStudent, type FoundStudent } from './students.js'
import { trainingData } from './training-data.js'

export interface TrainPayload {
  /** The model that is trained further, or that teaches. */
  model: string
  version: string
  sourceFile: string
  sourceDigest: string
  signature: Signature
  /** Folder or file of rows to train on. */
  data: string
  /** The student; absent where the model itself is trained further. */
  student?: FoundStudent
  settings: TrainingSettings
  /** Name of the model that the result becomes a version of. */
  as: string
  threads: number
  storeRoot: string
}

export interface TrainJobResult {
  /** The trained model: taken over by the gateway, and gone afterwards. */
  file: string
  as: string
  ended: 'steps' | 'patience'
  best: CurvePoint
  curve: readonly CurvePoint[]
  parameters: number
  /** How good the teacher is on the same held-out rows, by labels. */
  teacher?: Evaluation
}

/** What the job's result is afterwards. */
export type ShownTraining = Omit<TrainJobResult, 'file'>

/** @throws FlyweightError `invalid_input` for data that does not fit, `invalid_model` for a model that cannot be trained */
export async function runTrainJob(payload: TrainPayload, { report, log, publish, signal, redis }: JobContext): Promise<TrainJobResult> {
  const { settings, signature, storeRoot } = payload
  report({ fraction: 0, step: 'reading data' })
  const samples = await loadSamples(payload.data, signature)
  if (samples === undefined) throw new FlyweightError('invalid_input', `/data: there is nothing to train on at ${payload.data}`)
  const source = await loadModel(payload.sourceFile)
  const subject = createHash('sha256')
    .update(JSON.stringify([payload.sourceDigest, samples.digest, payload.student ?? null, settings]))
    .digest('hex')
  const checkpoint = await checkpointFile(storeRoot, subject)
  const resume = await loadCheckpoint(checkpoint, subject)
  if (resume !== undefined) log(`going on from step ${resume.training.step}`)
  const curve: CurvePoint[] = [...(resume?.curve ?? [])]
  const student =
    payload.student === undefined
      ? undefined
      : await makeStudent(payload.student, { teacher: source, samples, batchable: signature.batchable, threads: payload.threads, signal })
  const start = { at: performance.now(), fraction: undefined as number | undefined }
  const result = await runTraining({
    model: source,
    output: signature.outputs[0]?.name ?? '',
    data: trainingData(samples, signature.outputs[0]),
    ...(student === undefined ? {} : { student }),
    settings,
    threads: payload.threads,
    openGroup: redis === undefined ? undefined : (own, parallel) => openGroup(own, parallel, { redis, log }),
    signal,
    ...(resume === undefined ? {} : { resume }),
    onProgress: (news) => {
      start.fraction ??= news.fraction
      const done = news.fraction - (start.fraction ?? 0)
      const etaS = done > 0 ? ((performance.now() - start.at) / 1000) * ((1 - news.fraction) / done) : undefined
      report({ fraction: news.fraction * 0.98, step: stepOf(news), ...(etaS === undefined ? {} : { etaS }) })
      if (news.point === undefined) return
      curve.push(news.point)
      log(lineOf(news.point))
      publish({}, { curve })
    },
    onCheckpoint: (state) => saveCheckpoint(checkpoint, subject, state),
  })
  const folder = await new ArtifactStore(storeRoot).makeTemporaryDirectory()
  const file = join(folder, 'model.onnx')
  await saveModel(result.model, file)
  await removeCheckpoint(checkpoint)
  const { ended, best, parameters, teacher } = result
  return { file, as: payload.as, ended, best, curve: result.curve, parameters, ...(teacher === undefined ? {} : { teacher }) }
}

async function checkpointFile(storeRoot: string, subject: string): Promise<string> {
  const folder = join(storeRoot, 'checkpoints')
  await mkdir(folder, { recursive: true })
  return join(folder, `${subject}.npz`)
}

function stepOf({ step, epoch, loss }: FitNews): string {
  return `step ${step}, epoch ${epoch.toFixed(1)}, loss ${loss.toPrecision(4)}`
}

function lineOf({ epoch, loss, heldOut }: CurvePoint): string {
  const accuracy = heldOut.accuracy === undefined ? '' : `, accuracy ${(100 * heldOut.accuracy).toFixed(2)} %`
  return `epoch ${epoch.toFixed(1)}: loss ${loss.toPrecision(4)}, held out ${heldOut.loss.toPrecision(4)}${accuracy}`
}
