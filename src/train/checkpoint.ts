// Training on disk: everything that a fit needs to go on after a crash, as one .npz file that is replaced as a whole.
import { readFile, rename, rm, writeFile } from 'node:fs/promises'
import { FlyweightError } from '../errors.js'
import type { CurvePoint } from '../measurements.js'
import { readNpz, writeNpz } from '../tensor/npz.js'
import type { Tensor } from '../tensor/tensor.js'
import type { FitState } from './fit.js'
import type { TrainState } from './step-engine.js'

interface Header {
  /** What is trained, on what and how: another fit must not go on from it. */
  subject: string
  curve: CurvePoint[]
  steps: { training: number; best: number }
}

const HEADER = 'header'

/** Writes the state; a crash leaves either this one or the one before. */
export async function saveCheckpoint(file: string, subject: string, { training, best, curve }: FitState): Promise<void> {
  const header: Header = { subject, curve, steps: { training: training.step, best: best.step } }
  const text = new TextEncoder().encode(JSON.stringify(header))
  const arrays = new Map<string, Tensor>([[HEADER, { dtype: 'uint8', dims: [text.length], data: text }]])
  for (const [part, { vectors }] of Object.entries({ training, best })) {
    for (const [name, data] of Object.entries(vectors)) arrays.set(`${part}/${name}`, { dtype: 'float32', dims: [data.length], data })
  }
  await writeFile(unfinished(file), writeNpz(arrays, { compress: false }))
  await rename(unfinished(file), file)
}

/**
 * The state that a fit of `subject` can go on from; undefined where there is none.
 * @throws FlyweightError `conflict` for a checkpoint of something else; `invalid_input` for a damaged one
 */
export async function loadCheckpoint(file: string, subject: string): Promise<FitState | undefined> {
  const bytes = await readFile(file).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined
    throw error
  })
  if (bytes === undefined) return undefined
  const arrays = readNpz(bytes)
  const text = arrays.get(HEADER)
  if (text === undefined) throw new FlyweightError('invalid_input', `${file} is not a checkpoint of training: it has no array "${HEADER}"`)
  const { subject: found, curve, steps } = JSON.parse(Buffer.from(text.data as Uint8Array).toString()) as Header
  if (found !== subject) {
    throw new FlyweightError('conflict', `${file} is the checkpoint of another training: other model, data or settings; remove it to begin anew`)
  }
  const part = (name: 'training' | 'best'): TrainState => ({
    step: steps[name],
    vectors: Object.fromEntries(
      [...arrays].filter(([key]) => key.startsWith(`${name}/`)).map(([key, { data }]) => [key.slice(name.length + 1), data as Float32Array<ArrayBuffer>]),
    ),
  })
  return { training: part('training'), best: part('best'), curve }
}

/** Removes a checkpoint that is of no use any more, and what a crash left of writing it. */
export async function removeCheckpoint(file: string): Promise<void> {
  for (const one of [file, unfinished(file)]) await rm(one, { force: true })
}

function unfinished(file: string): string {
  return `${file}.new`
}
