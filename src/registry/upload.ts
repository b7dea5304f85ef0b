// Placing an uploaded model in the repository's folder: proven in probation first, then moved into
// place as one rename, so that the folder never shows a version that is half there.
import { copyFile, mkdir, mkdtemp, readdir, rename, rm, stat, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { stringify } from 'yaml'
import { FlyweightError } from '../errors.js'
import { takeIn, type IntakeContext } from './intake.js'
import type { Manifest } from './manifest.js'
import { isModelName, isVersion, MANIFEST_FILE, MODEL_FILE, readModelFolder } from './model-folder.js'

const STAGING = '.incoming-'
/** No upload is looked at for so long: what is older was left by a killed process. */
const STALE_MS = 3_600_000

export interface Upload {
  name: string
  /** Default: one above the newest. */
  version?: string
  modelFile: string
  /** External data, under the plain names the model refers to. */
  externalFiles?: readonly string[]
  /** Becomes the model's model.yaml, in place of the one it has. */
  manifest?: Manifest
}

export interface Placement extends IntakeContext {
  root: string
  /** Versions that exist without a folder of their own. */
  taken: readonly string[]
}

/**
 * @returns the version it became
 * @throws FlyweightError `malformed` for a name or version that cannot be a folder, `conflict`, `invalid_config`, `invalid_model`
 */
export async function placeUpload(upload: Upload, placement: Placement): Promise<string> {
  const { name, manifest } = upload
  const { root } = placement
  if (!isModelName(name)) throw malformed('/name', `is ${JSON.stringify(name)}, expected letters, digits, ".", "_" and "-", at most 100`)
  if (upload.version !== undefined && !isVersion(upload.version)) throw malformed('/version', `is ${JSON.stringify(upload.version)}, expected a whole number`)
  if (manifest?.source !== undefined) throw new FlyweightError('invalid_config', 'model.yaml: /source cannot be given with an upload: the upload is the model')
  const staging = await mkdtemp(join(root, STAGING))
  try {
    const existing = await versionsIn(join(root, name), placement.taken)
    const version = upload.version ?? String(Math.max(0, ...existing.map(Number)) + 1)
    if (existing.includes(version)) throw new FlyweightError('conflict', `model ${name} has a version ${version} already`)
    await prove(upload, version, staging, placement)
    await mkdir(join(root, name), { recursive: true })
    if (manifest) await rename(join(staging, MANIFEST_FILE), join(root, name, MANIFEST_FILE))
    for (let chosen = version; ; chosen = String(Number(chosen) + 1)) {
      try {
        await rename(join(staging, version), join(root, name, chosen))
        return chosen
      } catch (cause) {
        // Another upload came first: it has the number, this one takes the next unless it asked for its own.
        if (!isTaken(cause)) throw cause
        if (upload.version !== undefined) throw new FlyweightError('conflict', `model ${name} has a version ${chosen} already`, { cause })
      }
    }
  } finally {
    await rm(staging, { recursive: true, force: true })
  }
}

/** Removes what uploads cut short by a kill left behind. */
export async function clearUploads(root: string): Promise<void> {
  for (const name of await readdir(root)) {
    const left = name.startsWith(STAGING) ? await stat(join(root, name)).catch(() => undefined) : undefined
    if (left && Date.now() - left.mtimeMs > STALE_MS) await rm(join(root, name), { recursive: true, force: true })
  }
}

/** Lays the upload out as a model folder of its own and takes that in; the store then knows the file already. */
async function prove({ name, modelFile, externalFiles = [], manifest }: Upload, version: string, staging: string, placement: Placement): Promise<void> {
  await mkdir(join(staging, version))
  await copyFile(modelFile, join(staging, version, MODEL_FILE))
  for (const file of externalFiles) await copyFile(file, join(staging, version, basename(file)))
  if (manifest) await writeFile(join(staging, MANIFEST_FILE), stringify(manifest))
  const folder = await readModelFolder(staging)
  const [found] = folder?.versions ?? []
  if (!folder || !found) throw new FlyweightError('internal', 'the upload vanished while it was looked at')
  if (folder.fault) throw folder.fault
  await takeIn(name, found, folder, placement)
}

async function versionsIn(folder: string, taken: readonly string[]): Promise<string[]> {
  const names = await readdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return []
    throw error
  })
  return [...new Set([...names.filter(isVersion), ...taken])]
}

function isTaken(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException
  return code === 'ENOTEMPTY' || code === 'EEXIST'
}

function malformed(pointer: string, detail: string): FlyweightError {
  return new FlyweightError('malformed', `${pointer} ${detail}`, { errors: [{ pointer, detail }] })
}
