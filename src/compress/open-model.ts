// Opens a session on a model in memory. A large one goes through files: the runtime maps weights that lie beside
// the model, where it would copy those it is handed in memory two or three times.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { allTensors } from '../onnx/graph.js'
import { saveModel } from '../onnx/load.js'
import { encodeModel, type ModelProto } from '../onnx/proto.js'
import { collectGarbage } from '../runtime/collect-garbage.js'
import { openSession, type Session, type SessionOptions } from '../runtime/session.js'

/** From this size on, files are cheaper than copies. */
export const LARGE_BYTES = 64 * 2 ** 20

/** `workDir` takes the files of a large model until the session is released; default: the system's temporary folder. */
export async function openModel(model: ModelProto, { workDir, ...options }: SessionOptions & { workDir?: string } = {}): Promise<Session> {
  if (weightBytes(model) < LARGE_BYTES) return openSession(encodeModel(model), options)
  // The runtime must not find the memory of models before this one still taken.
  collectGarbage()
  const folder = await mkdtemp(join(workDir ?? tmpdir(), 'open-'))
  const clear = () => rm(folder, { recursive: true, force: true })
  try {
    const file = join(folder, 'model.onnx')
    await saveModel(model, file, { externalThresholdBytes: 0 })
    const session = await openSession(file, options)
    const release = async () => {
      await session.release()
      await clear()
    }
    return { ...session, release }
  } catch (error) {
    await clear()
    throw error
  }
}

/** Bytes of all raw weights of a model. */
export function weightBytes(model: ModelProto): number {
  let total = 0
  for (const { rawData } of allTensors(model)) total += rawData.length
  return total
}
