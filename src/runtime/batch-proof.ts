// Does a model batch? Not by what its shapes claim but by running it: a batch of two must give the rows
// that two batches of one give. Used in probation only.
import type { Tensor, TensorSpec } from '../tensor/tensor.js'
import { syntheticFeeds } from './sample-inputs.js'
import type { Session } from './session.js'
import { FlyweightError, messageOf } from '../errors.js'

export interface BatchProof {
  batchable: boolean
  notes: string[]
}

/**
 * Sizes tried for free dimensions other than the batch, all at once: sequence lengths and image sides
 * that common architectures accept (224 for patch grids, 320 for text lines, 512 samples of 16 kHz audio).
 */
const SIZES = [32, 48, 64, 16, 8, 1, 128, 224, 256, 320, 512, 640] as const
const TOLERANCE = 1e-3

/** Never throws for a model that merely could not be run with made-up inputs: then it counts as not batching, and a note says so. */
export async function proveBatching(session: Session, samples?: Readonly<Record<string, Tensor>>): Promise<BatchProof> {
  const notes: string[] = []
  const found = await firstRun(session, samples)
  if ('failure' in found) return { batchable: false, notes: [`it was loaded but not run, so it is served without batching: ${found.failure}`] }
  const { rows, outputs } = found
  const infinite = Object.keys(outputs[0] ?? {}).filter((name) => !isFinite(outputs[0]?.[name]))
  if (infinite.length > 0) notes.push(`output ${quoted(infinite)} had values that are not finite`)
  if (session.inputs.length === 0 || !session.inputs.every(hasFreeBatch)) return { batchable: false, notes }
  const [first, second] = rows
  if (first === undefined || second === undefined) return { batchable: false, notes }
  try {
    const both = await session.run(concatenate(first, second))
    const deviation = compareRows(both, outputs)
    if (deviation === undefined) return { batchable: true, notes }
    notes.push(`it is served without batching: ${deviation}`)
  } catch (error) {
    notes.push(`it is served without batching: a batch of two failed (${messageOf(error)})`)
  }
  return { batchable: false, notes }
}

type Found = { rows: Record<string, Tensor>[]; outputs: Record<string, Tensor>[] } | { failure: string }

/**
 * One row of inputs that the model accepts, found by trying; made of noise.
 * @throws FlyweightError `invalid_model` with what the runtime said to the first try.
 */
export async function findRow(session: Session): Promise<Record<string, Tensor>> {
  const found = await firstRun(session, undefined)
  if ('failure' in found) throw new FlyweightError('invalid_model', `no inputs were found that the model accepts; give it sample inputs (${found.failure})`)
  return found.rows[0] ?? {}
}

/** Two single rows that the model accepts, and what it answers to each. */
async function firstRun(session: Session, samples: Readonly<Record<string, Tensor>> | undefined): Promise<Found> {
  let failure: string | undefined
  for (const makeRows of candidates(session.inputs, samples)) {
    try {
      const rows = makeRows()
      const outputs: Record<string, Tensor>[] = []
      for (const row of rows) outputs.push(await session.run(row))
      return { rows, outputs }
    } catch (error) {
      failure ??= messageOf(error)
    }
  }
  return { failure: failure ?? 'no inputs to run it with' }
}

function* candidates(inputs: readonly TensorSpec[], samples: Readonly<Record<string, Tensor>> | undefined): Generator<() => Record<string, Tensor>[]> {
  if (samples !== undefined) yield () => twoRows(inputs, samples)
  const freeBeyondBatch = inputs.some(({ dims }) => dims.some((dim, axis) => axis > 0 && (typeof dim === 'string' || dim < 0)))
  for (const freeDim of freeBeyondBatch ? SIZES : SIZES.slice(0, 1)) {
    yield () => [1, 2].map((seed) => syntheticFeeds(inputs, { batch: 1, seed, freeDim }))
  }
}

/** The first two rows of real inputs; where there is one row, or it does not batch, it stands for both. */
function twoRows(inputs: readonly TensorSpec[], samples: Readonly<Record<string, Tensor>>): Record<string, Tensor>[] {
  const count = inputs.every(hasFreeBatch) ? Math.min(...inputs.map(({ name }) => samples[name]?.dims[0] ?? 0)) : 0
  if (count < 1) return [{ ...samples }, { ...samples }]
  return [0, Math.min(1, count - 1)].map((index) => Object.fromEntries(inputs.map(({ name }) => [name, rowOf(samples[name] as Tensor, index)])))
}

function rowOf({ dtype, dims, data }: Tensor, index: number): Tensor {
  const size = data.length / (dims[0] as number)
  return { dtype, dims: [1, ...dims.slice(1)], data: data.slice(index * size, (index + 1) * size) }
}

function hasFreeBatch({ dims }: TensorSpec): boolean {
  const [batch] = dims
  return batch !== undefined && (typeof batch === 'string' || batch < 0)
}

function concatenate(first: Record<string, Tensor>, second: Record<string, Tensor>): Record<string, Tensor> {
  return Object.fromEntries(
    Object.entries(first).map(([name, { dtype, dims, data }]) => {
      const other = second[name]?.data ?? data
      const joined = Array.isArray(data) ? [...data, ...(other as string[])] : joinArrays(data, other as typeof data)
      return [name, { dtype, dims: [2, ...dims.slice(1)], data: joined }]
    }),
  )
}

function joinArrays(first: Exclude<Tensor['data'], string[]>, second: Exclude<Tensor['data'], string[]>): Tensor['data'] {
  const joined = new (first.constructor as Float32ArrayConstructor)(first.length + second.length)
  joined.set(first as Float32Array, 0)
  joined.set(second as Float32Array, first.length)
  return joined
}

/** What is wrong with a batch of two against its rows run alone; undefined when nothing is. */
function compareRows(both: Record<string, Tensor>, alone: readonly Record<string, Tensor>[]): string | undefined {
  for (const [name, tensor] of Object.entries(both)) {
    const dims = alone[0]?.[name]?.dims ?? []
    const expected = [2, ...dims.slice(1)]
    if (dims[0] !== 1 || String(tensor.dims) !== String(expected)) {
      return `output "${name}" of a batch of two has dims [${tensor.dims.join(', ')}], that of one row [${dims.join(', ')}]`
    }
    for (const [index, row] of alone.entries()) {
      if (!close(rowOf(tensor, index).data, row[name]?.data ?? [])) {
        return `output "${name}" of a row depends on the other rows of its batch, or differs from run to run`
      }
    }
  }
  return undefined
}

/** Within a thousandth of the row's largest finite magnitude; integers, booleans and strings must be equal. */
function close(actual: Tensor['data'], expected: Tensor['data']): boolean {
  if (actual.length !== expected.length) return false
  const floats = actual instanceof Float32Array || actual instanceof Float64Array
  let largest = 0
  if (floats) for (const value of expected as Float32Array) if (Number.isFinite(value)) largest = Math.max(largest, Math.abs(value))
  for (let i = 0; i < actual.length; i++) {
    if (Object.is(actual[i], expected[i]) || actual[i] === expected[i]) continue
    if (!floats || !(Math.abs((actual[i] as number) - (expected[i] as number)) <= TOLERANCE * largest)) return false
  }
  return true
}

function isFinite(tensor: Tensor | undefined): boolean {
  const data = tensor?.data
  return !(data instanceof Float32Array || data instanceof Float64Array) || data.every(Number.isFinite)
}

function quoted(names: readonly string[]): string {
  return names.map((name) => `"${name}"`).join(', ')
}
