// .onnx files ↔ models in memory, with their external data. What may be read is settled by
// external-data.ts; whether the model is reasonable by limits.ts and by probation.
import { createWriteStream } from 'node:fs'
import { open, readFile } from 'node:fs/promises'
import { basename, dirname } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { FlyweightError, messageOf } from '../errors.js'
import { loadExternalData } from './external-data.js'
import { allTensors } from './graph.js'
import { create, DataLocation, decodeModel, encodedPieces, shallowCopy, StringStringEntryProtoSchema } from './proto.js'
import type { GraphProto, ModelProto, TensorProto } from './proto.js'

const GIB = 2 ** 30
// Pages, so that the runtime can map weights straight from the file.
const ALIGNMENT = 4096
// Smaller tensors stay in the .onnx file: shapes and scales are read during optimization.
const SMALLEST_EXTERNAL = 1024

/**
 * Reads a model and its external data; the result stands alone. External tensors that hold what `known` has by their
 * name share its bytes.
 * @throws FlyweightError `invalid_model` when the file is missing, no ONNX, or names data it may not read.
 */
export async function loadModel(file: string, options: { known?: ReadonlyMap<string, Uint8Array> } = {}): Promise<ModelProto & { graph: GraphProto }> {
  let bytes: Uint8Array
  try {
    bytes = await readFile(file)
  } catch (cause) {
    throw new FlyweightError('invalid_model', `model file cannot be read: ${messageOf(cause)}`, { cause })
  }
  const model = decodeModel(bytes)
  await loadExternalData(model, dirname(file), options.known)
  return model
}

/**
 * Writes a model; the same model always gives the same bytes. When its weights exceed
 * `externalThresholdBytes` (default 1 GiB; protobuf ends at 2 GiB and encodes slowly), the top-level
 * initializers go to `<file>.data` beside it. `model` is left as it was.
 */
export async function saveModel(model: ModelProto, file: string, options: { externalThresholdBytes?: number } = {}): Promise<void> {
  let total = 0
  for (const tensor of allTensors(model)) total += tensor.rawData.length
  if (total <= (options.externalThresholdBytes ?? GIB) || !model.graph) {
    await writePieces(file, model)
    return
  }
  const graph = shallowCopy(model.graph)
  graph.initializer = await writeExternal(graph.initializer, `${file}.data`)
  const lean = shallowCopy(model)
  lean.graph = graph
  await writePieces(file, lean)
}

async function writePieces(file: string, model: ModelProto): Promise<void> {
  await pipeline(Readable.from(encodedPieces(model)), createWriteStream(file))
}

async function writeExternal(tensors: readonly TensorProto[], file: string): Promise<TensorProto[]> {
  const output = await open(file, 'w')
  try {
    let offset = 0
    const references: TensorProto[] = []
    for (const tensor of tensors) {
      const length = tensor.rawData.length
      if (length < SMALLEST_EXTERNAL) {
        references.push(tensor)
        continue
      }
      offset = Math.ceil(offset / ALIGNMENT) * ALIGNMENT
      await writeAt(output, tensor.rawData, offset)
      references.push(reference(tensor, basename(file), offset))
      offset += length
    }
    return references
  } finally {
    await output.close()
  }
}

async function writeAt(output: Awaited<ReturnType<typeof open>>, bytes: Uint8Array, offset: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await output.write(bytes, done, Math.min(bytes.length - done, GIB), offset + done)
    done += bytesWritten
  }
}

function reference(tensor: TensorProto, location: string, offset: number): TensorProto {
  const entries = { location, offset: String(offset), length: String(tensor.rawData.length) }
  const lean = shallowCopy(tensor)
  lean.rawData = new Uint8Array()
  lean.dataLocation = DataLocation.EXTERNAL
  lean.externalData = Object.entries(entries).map(([key, value]) => create(StringStringEntryProtoSchema, { key, value }))
  return lean
}
