// Who is trained: the model itself, a network built for what the teacher takes and gives, or a model that exists and is
// checked for that.
import { messageOf } from '../errors.js'
import { encodeModel } from '../onnx/proto.js'
import { openSession, type Session } from '../runtime/session.js'
import type { Tensor, TensorSpec } from '../tensor/tensor.js'
import { buildNetwork, type NetworkSpec } from './networks.js'
import { optionError } from './options.js'
import type { Model } from './training-form.js'

/** A student that exists. */
export interface GivenStudent {
  kind: 'given'
  model: Model
}

export interface Pupil {
  model: Model
  /** Its output of scores. */
  output: string
  /** Its first input, which augmentation changes. */
  input: string
}

export interface PupilOptions {
  /** The model that is trained further, or that teaches. */
  model: Model
  /** Its output of scores. */
  output: string
  student?: NetworkSpec | GivenStudent
  settings: { seed: number }
  threads: number
}

/**
 * @param first one row of the data
 * @param teacher the model, opened; absent where it is trained itself
 * @throws FlyweightError `invalid_input` for a student that does not fit the teacher
 */
export async function pupilOf(
  { model, output, student, settings, threads }: PupilOptions,
  { first, teacher }: { first: Readonly<Record<string, Tensor>>; teacher: Session | undefined },
): Promise<Pupil> {
  const names = model.graph.input.map(({ name }) => name).filter((name) => name in first)
  const feeds = Object.fromEntries(names.map((name) => [name, first[name] as Tensor]))
  const [input = ''] = names
  if (student === undefined || teacher === undefined) return { model, output, input }
  const scores = (await teacher.run(feeds, [output]))[output] as Tensor
  if (student.kind === 'given') return { model: student.model, output: await checkGiven(student.model, { feeds, teacher, scores, threads }), input }
  const { dtype, dims } = feeds[input] as Tensor
  if (names.length !== 1 || dtype !== 'float32')
    throw optionError('/student', `students that are built take one float32 input, the teacher takes ${described(teacher.inputs)}`)
  if (scores.dims.length !== 2) {
    const detail = `students that are built give scores [rows, classes], the teacher's output "${output}" is [${scores.dims.join(', ')}] for one row`
    throw optionError('/student', detail)
  }
  const around = { input: { name: input, dims: dims.slice(1) }, output: { name: output, classes: scores.dims[1] as number } }
  return { model: buildNetwork(student, around, settings.seed), output, input }
}

interface Wanted {
  /** One row of the teacher's inputs. */
  feeds: Readonly<Record<string, Tensor>>
  teacher: Session
  /** What the teacher answers to it. */
  scores: Tensor
  threads: number
}

/** The student's output that compares with the teacher's: its first. */
async function checkGiven(student: Model, { feeds, teacher, scores, threads }: Wanted): Promise<string> {
  const session = await openSession(encodeModel(student), { threads })
  try {
    const inputs = (specs: readonly TensorSpec[]) => specs.map(({ name, dtype }) => `${dtype} ${name}`).sort()
    if (String(inputs(session.inputs)) !== String(inputs(teacher.inputs)))
      throw optionError('/student', `its inputs are ${described(session.inputs)}, expected the teacher's, ${described(teacher.inputs)}`)
    const output = session.outputs[0]?.name ?? ''
    const row = dimsOf(feeds)
    const results = await session.run(feeds, [output]).catch((cause: unknown) => {
      throw optionError('/student', `it cannot run on a row of the data, ${row}: ${messageOf(cause)}`)
    })
    const { dtype, dims } = results[output] as Tensor
    if (dtype !== 'float32' || String(dims) !== String(scores.dims)) {
      const detail = `its output "${output}" is ${dtype} [${dims.join(', ')}] for one row, expected float32 [${scores.dims.join(', ')}], the dims of what the teacher gives`
      throw optionError('/student', detail)
    }
    return output
  } finally {
    await session.release()
  }
}

function described(specs: readonly TensorSpec[]): string {
  return specs.map(({ name, dtype, dims }) => `${dtype} "${name}" [${dims.join(', ')}]`).join(', ')
}

function dimsOf(feeds: Readonly<Record<string, Tensor>>): string {
  return Object.entries(feeds)
    .map(([name, { dims }]) => `"${name}" [${dims.join(', ')}]`)
    .join(', ')
}
