// From the description of a student to what training takes: models are read, and the teacher is made narrower by the pass
// prune-channels and shallower by train/shrink-depth.ts.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pruneChannels } from '../compress/passes/prune-channels.js'
import type { Samples } from '../compress/samples.js'
import { FlyweightError } from '../errors.js'
import { loadModel } from '../onnx/load.js'
import type { NetworkSpec } from '../train/networks.js'
import { optionError } from '../train/options.js'
import type { GivenStudent } from '../train/pupil.js'
import { shrinkDepth } from '../train/shrink-depth.js'
import type { ShrinkSpec } from '../train/students.js'
import { observeTensors } from '../train/tensors.js'
import type { Model } from '../train/training-form.js'

/** A student whose model, where it is one, was found. */
export type FoundStudent = NetworkSpec | ShrinkSpec | { kind: 'file'; file: string /** Identifies its bytes. */; digest: string }

export interface StudentContext {
  teacher: Model
  samples: Samples
  /** Whether the teacher takes several rows at once. */
  batchable: boolean
  threads: number
  signal?: AbortSignal
}

/** @throws FlyweightError `invalid_input` for a teacher of which nothing can go, `invalid_model` for a file that is no model */
export async function makeStudent(found: FoundStudent, context: StudentContext): Promise<NetworkSpec | GivenStudent> {
  switch (found.kind) {
    case 'file':
      return { kind: 'given', model: await loadModel(found.file) }
    case 'shrink':
      return { kind: 'given', model: await shrunk(found, context) }
    default:
      return found
  }
}

async function shrunk({ width, depth }: ShrinkSpec, context: StudentContext): Promise<Model> {
  let { teacher: model } = context
  if (depth !== undefined) {
    const { dims } = await observeTensors(model, context.samples.take(0, 1))
    model = shrinkDepth(model, dims, depth).model
  }
  return width === undefined ? model : narrowed(model, width, context)
}

/** Of each group of channels that belong together the same share stays. */
async function narrowed(model: Model, width: number, { samples, batchable, threads, signal }: StudentContext): Promise<Model> {
  const workDir = await mkdtemp(join(tmpdir(), 'student-'))
  const ratio = 1 - width
  const step = { ratio, target: 'channels', importance: 'l2', allocation: 'uniform', roundTo: 1, maxRatio: Math.max(ratio, 0.9) }
  try {
    const result = await pruneChannels.run(
      model,
      { pass: pruneChannels.name, ...step, normalized: true, exclude: [], seed: 0 },
      { loadOriginal: () => Promise.resolve(model), device: 'cpu', samples, maxBatch: batchable ? 32 : 1, threads, workDir, signal },
    )
    if (!result.decisions.some(({ action }) => action === 'done')) throw nothingNarrower(model, width)
    return result.model
  } catch (error) {
    if (error instanceof FlyweightError && error.code === 'invalid_recipe') throw optionError('/student/width', error.message)
    throw error
  } finally {
    await rm(workDir, { recursive: true, force: true })
  }
}

function nothingNarrower({ graph }: Model, width: number): FlyweightError {
  const weighted = graph.node.filter(({ opType }) => ['Conv', 'Gemm', 'MatMul'].includes(opType)).length
  return optionError('/student/width', `got ${width}, but none of the ${weighted} layers of the teacher has channels of which some can go`)
}
