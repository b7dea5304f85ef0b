// Models to cut and their stages as files. Weights that lie beside the model stay where they are: the stages name the
// same file, which is linked into their folder.
import { copyFile, link, mkdir, readFile, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { FlyweightError, messageOf } from '../errors.js'
import { externalFiles, resolveExternalFile } from '../onnx/external-data.js'
import { saveModel } from '../onnx/load.js'
import { decodeModel, type GraphProto, type ModelProto } from '../onnx/proto.js'
import type { Stage } from './stages.js'

/**
 * Reads a model whose external data is not read but linked into `folder`, which is made where there is none. What is
 * saved there finds it.
 * @throws FlyweightError `invalid_model` for a file that cannot be read, or names data it may not read
 */
export async function readBeside(file: string, folder: string): Promise<ModelProto & { graph: GraphProto }> {
  const bytes = await readFile(file).catch((cause: unknown) => {
    throw new FlyweightError('invalid_model', `model file cannot be read: ${messageOf(cause)}`, { cause })
  })
  const model = decodeModel(bytes)
  await mkdir(folder, { recursive: true })
  for (const location of externalFiles(model)) {
    const [from, to] = [await resolveExternalFile(dirname(file), location), join(folder, location)]
    await mkdir(dirname(to), { recursive: true })
    await link(from, to).catch(async (error: NodeJS.ErrnoException) => {
      if (error.code === 'EEXIST' && (await sameFile(from, to))) return
      if (error.code === 'EEXIST')
        throw new FlyweightError('conflict', `${to} is another file than that of the model, expected a folder without it`, { cause: error })
      // Links do not reach other file systems.
      await copyFile(from, to)
    })
  }
  return model
}

/** Writes `stage-0.onnx` and so on; returns their names. */
export async function saveStages(stages: readonly Stage[], folder: string): Promise<string[]> {
  const names = stages.map((_, index) => `stage-${index}.onnx`)
  for (const [index, { model }] of stages.entries()) await saveModel(model, join(folder, names[index] as string))
  return names
}

async function sameFile(one: string, other: string): Promise<boolean> {
  const [first, second] = await Promise.all([stat(one), stat(other)])
  return first.ino === second.ino && first.dev === second.dev
}
