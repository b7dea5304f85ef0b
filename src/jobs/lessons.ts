// What a pruned model learns from the original: which outputs, by which loss, and the samples with the original's answers
// beside them.
import type { Model } from '../compress/passes/pass.js'
import { batchesOf, type Samples } from '../compress/samples.js'
import { intAttribute } from '../onnx/attributes.js'
import type { Session } from '../runtime/session.js'
import { joinRows } from '../tensor/rows.js'
import { elementCount, type Tensor } from '../tensor/tensor.js'
import type { Dataset } from '../train/dataset.js'
import { LABELS } from '../train/evaluate.js'
import { lossOf } from '../train/losses/table.js'
import type { EmitLoss } from '../train/step.js'
import { teacherColumn, withTeacher } from '../train/teacher.js'
import { trainingData } from './training-data.js'

export interface Lesson {
  output: string
  /** Dims of the original's answer to one row. */
  dims: readonly number[]
  /** Scores over classes before or after the softmax, or values that mean something by themselves. */
  kind: 'logits' | 'probabilities' | 'values'
  /** Mean square of values, by which their error is divided, so that outputs count alike whatever their unit. */
  energy: number
}

/** Bytes of the original's answers that are kept from epoch to epoch. */
const MOST_KEPT_BYTES = 2 ** 28
/** Rows that the size of values is estimated on. */
const ENERGY_ROWS = 32
/** Labels, under a name that evaluation does not count right answers by: what is learned is the original's answers. */
const KNOWN_CLASSES = 'known_classes'

/**
 * One for each float32 output of the original with an entry for each row. Those of rank 2 are scores over classes, and so is
 * the last axis of what a Softmax writes.
 */
export async function lessonsOf(original: Model, session: Session, { samples, maxBatch }: { samples: Samples; maxBatch: number }): Promise<Lesson[]> {
  const lessons = new Map<string, Lesson & { values: number }>()
  for (const { count, feeds } of batchesOf(samples, maxBatch, ENERGY_ROWS)) {
    for (const [output, { dtype, dims, data }] of Object.entries(await session.run(feeds))) {
      const known = lessons.get(output)
      if (dtype !== 'float32' || dims[0] !== count) lessons.delete(output)
      else {
        const own = known ?? { output, dims: dims.slice(1), kind: kindOf(original, output, dims), energy: 0, values: 0 }
        lessons.set(output, own)
        for (const value of data as Float32Array) own.energy += value ** 2
        own.values += data.length
      }
    }
  }
  return [...lessons.values()].map(({ energy, values, ...lesson }) => ({ ...lesson, energy: energy > 0 ? energy / values : 1 }))
}

function kindOf({ graph }: Model, output: string, dims: readonly number[]): Lesson['kind'] {
  const softmax = graph.node.find(({ opType, output: written }) => opType === 'Softmax' && written.includes(output))
  const axis = softmax === undefined ? undefined : intAttribute(softmax, 'axis', -1)
  if (axis === -1 || axis === dims.length - 1) return 'probabilities'
  return dims.length === 2 && (dims[1] as number) > 1 ? 'logits' : 'values'
}

/** The output that labels are classes of. */
function classified(lessons: readonly Lesson[]): Lesson | undefined {
  return lessons.find(({ kind, dims }) => kind !== 'values' && dims.length === 1)
}

/** The sum, over outputs, of distillation for scores and of squared errors for values. */
export function lossOfLessons(lessons: readonly Lesson[], { labelled }: { labelled: boolean }): EmitLoss {
  return (emit, tensors) =>
    lessons
      .map((lesson) => {
        const { output, kind, energy } = lesson
        const inputs = { prediction: output, target: teacherColumn(output), tensors }
        if (kind === 'values') return emit.op('Mul', [lossOf({ kind: 'mse' })(emit, inputs), emit.scalar(1 / energy)])
        const labels = labelled && lesson === classified(lessons) ? { labels: KNOWN_CLASSES } : {}
        return lossOf({ kind: 'distillation', predictions: kind, targets: kind })(emit, { ...inputs, ...labels })
      })
      .reduce((sum, one) => emit.op('Add', [sum, one]))
}

/**
 * The samples as rows to train on, with the original's answers and their labels.
 * @throws FlyweightError `invalid_input` for a label that is no class
 */
export function answeredSamples(samples: Samples, session: Session, { lessons, maxBatch }: { lessons: readonly Lesson[]; maxBatch: number }): Dataset {
  const scores = classified(lessons)
  const { rows, digest, take, labels } = samples
  const spec = scores && { name: scores.output, dtype: 'float32' as const, dims: [rows, ...scores.dims] }
  const known = scores === undefined || labels === undefined ? undefined : Int32Array.from(labels)
  const data = trainingData({ rows, digest, labels: known, take: (from, count) => take(from, count), alike: (_, most) => most }, spec)
  const bytes = lessons.reduce((sum, { dims }) => sum + 4 * elementCount(dims), 0) * rows
  const taught = withTeacher(data, session, { outputs: lessons.map(({ output }) => output), keep: bytes <= MOST_KEPT_BYTES })
  return {
    rows,
    read: async (chosen, position) => {
      const parts: Record<string, Tensor>[] = []
      for (let from = 0; from < chosen.length; from += maxBatch) parts.push(await taught.read(chosen.slice(from, from + maxBatch), position))
      const { [LABELS]: classes, ...columns } = joinRows(parts)
      return { ...columns, ...(classes === undefined ? {} : { [KNOWN_CLASSES]: classes }) }
    },
  }
}
