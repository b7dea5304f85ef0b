// A teacher beside the data: what another model answers to each row becomes columns of the batch, which losses compare
// the student with. Answers are kept where the rows are the same in every epoch and all of them fit into memory.
import type { Session } from '../runtime/session.js'
import { copyRows, joinRows } from '../tensor/rows.js'
import { byteSize, type Tensor } from '../tensor/tensor.js'
import type { Dataset } from './dataset.js'

/** The column that holds a teacher's output. */
export function teacherColumn(output: string): string {
  return `teacher::${output}`
}

export interface TeacherOptions {
  /** Names of the teacher's outputs. */
  outputs: readonly string[]
  /** Keep the answer to each row, where all are small enough: not for data that changes from epoch to epoch. */
  keep: boolean
}

/** Answers of up to this many bytes are kept. */
const KEPT_BYTES = 512 * 2 ** 20

/** The dataset with a column for each of the teacher's outputs; the teacher must take the dataset's columns as inputs and give one row for each. */
export function withTeacher(data: Dataset, teacher: Session, { outputs, keep }: TeacherOptions): Dataset {
  const inputs = teacher.inputs.map(({ name }) => name)
  const known = new Map<number, Record<string, Tensor>>()
  const answer = async (batch: Record<string, Tensor>) => teacher.run(Object.fromEntries(inputs.map((name) => [name, batch[name] as Tensor])), outputs)
  return {
    rows: data.rows,
    read: async (rows, position) => {
      const batch = await data.read(rows, position)
      if (keep && rows.every((row) => known.has(row))) return { ...batch, ...columns(joinRows(rows.map((row) => known.get(row) as Record<string, Tensor>))) }
      const answers = await answer(batch)
      if (keep && fits(answers, rows.length, data.rows)) for (const [index, row] of rows.entries()) known.set(row, rowOf(answers, index))
      return { ...batch, ...columns(answers) }
    },
  }
}

/** Whether what is answered to all rows is small enough. */
function fits(answers: Record<string, Tensor>, answered: number, rows: number): boolean {
  const bytes = Object.values(answers).reduce((sum, tensor) => sum + byteSize(tensor), 0)
  return (bytes / answered) * rows <= KEPT_BYTES
}

function columns(answers: Record<string, Tensor>): Record<string, Tensor> {
  return Object.fromEntries(Object.entries(answers).map(([output, tensor]) => [teacherColumn(output), tensor]))
}

function rowOf(tensors: Record<string, Tensor>, row: number): Record<string, Tensor> {
  return Object.fromEntries(Object.entries(tensors).map(([name, tensor]) => [name, copyRows(tensor, row, row + 1)]))
}
