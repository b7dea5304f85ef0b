// One model's folder in the repository: which versions lie there, with what settings, and whether
// anything changed since the last look. Reads names, sizes and model.yaml, never a model.
import { createHash } from 'node:crypto'
import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { FlyweightError, messageOf } from '../errors.js'
import { readManifestFile } from './manifest-file.js'
import type { Manifest } from './manifest.js'
import { confinedPath, isNpmSource, resolveNpmSource } from './npm-source.js'

export const MODEL_FILE = 'model.onnx'
export const MANIFEST_FILE = 'model.yaml'
/** Version under which the file of a `source:` is served. */
export const SOURCE_VERSION = '1'

export interface FoundVersion {
  version: string
  file: string
  /** Changes whenever a file of this version does. */
  stamp: string
}

export interface ModelFolder {
  /** Newest first. */
  versions: readonly FoundVersion[]
  manifest: Manifest
  /** By output index; undefined where the manifest names none. */
  labels: readonly string[] | undefined
  /** File or folder of sample inputs, if there is one. */
  samples: string | undefined
  /** Changes whenever the settings do. */
  stamp: string
  /** What is wrong with the settings; the model cannot be served with them. */
  fault: FlyweightError | undefined
}

export function isModelName(name: string): boolean {
  return /^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/.test(name)
}

/** A number as Triton demands it of a version's folder: no sign, no leading zero. */
export function isVersion(text: string): boolean {
  return /^(0|[1-9]\d{0,8})$/.test(text)
}

/** Undefined when there is no such folder, or nothing in it that makes it a model. */
export async function readModelFolder(folder: string): Promise<ModelFolder | undefined> {
  const names = await readdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return undefined
    throw error
  })
  if (names === undefined) return undefined
  const versions: FoundVersion[] = []
  for (const version of names.filter(isVersion)) {
    const stamp = await stampOf(join(folder, version))
    if (stamp !== undefined) versions.push({ version, file: join(folder, version, MODEL_FILE), stamp })
  }
  let found: ModelFolder = { versions, manifest: {}, labels: undefined, samples: undefined, stamp: '', fault: undefined }
  try {
    found = await withSettings(found, folder)
  } catch (error) {
    const fault = error instanceof FlyweightError ? error : new FlyweightError('invalid_config', messageOf(error), { cause: error })
    found = { ...found, stamp: `fault ${fault.message}`, fault }
  }
  if (found.versions.length === 0 && found.fault === undefined) return undefined
  return { ...found, versions: found.versions.toSorted((a, b) => Number(b.version) - Number(a.version)) }
}

async function withSettings(found: ModelFolder, folder: string): Promise<ModelFolder> {
  const { text, manifest } = await readManifestFile(join(folder, MANIFEST_FILE))
  const versions = [...found.versions]
  if (manifest.source !== undefined) {
    if (versions.some(({ version }) => version === SOURCE_VERSION))
      throw fault('/source', `is served as version ${SOURCE_VERSION}, but there is a folder ${SOURCE_VERSION}/ too`)
    const file = await resolveNpmSource(manifest.source, { from: folder, pointer: '/source' })
    versions.push({ version: SOURCE_VERSION, file, stamp: await fileStamp(file) })
  }
  const labelsText = manifest.labels === undefined ? undefined : await readFile(await labelsFile(manifest.labels, folder), 'utf8')
  const samples = await samplesFolder(manifest.samples, folder)
  const stamp = createHash('sha256')
    .update(JSON.stringify([text, labelsText, samples]))
    .digest('hex')
  return { versions, manifest, labels: labelsText === undefined ? undefined : labelsOf(labelsText, manifest), samples, stamp, fault: undefined }
}

async function labelsFile(path: string, folder: string): Promise<string> {
  if (isNpmSource(path)) return resolveNpmSource(path, { from: folder, pointer: '/labels' })
  const file = await confinedPath(folder, path)
  if (file === undefined) throw fault('/labels', `names ${path}, which is no file inside the model's folder`)
  return file
}

function labelsOf(text: string, { labelsOffset = 0, labelsAppend = [] }: Manifest): readonly string[] {
  const lines = text.replace(/\r?\n$/, '').split(/\r?\n/)
  return Object.freeze([...new Array<string>(labelsOffset).fill(''), ...lines, ...labelsAppend])
}

async function samplesFolder(path: string | undefined, folder: string): Promise<string | undefined> {
  const samples = await confinedPath(folder, path ?? 'samples')
  if (samples === undefined && path !== undefined) throw fault('/samples', `names ${path}, which is no file or folder inside the model's folder`)
  return samples
}

/** Undefined when the folder holds no model file. External data may lie in folders beside it. */
async function stampOf(folder: string): Promise<string | undefined> {
  const names = await readdir(folder, { recursive: true }).catch((): string[] => [])
  if (!names.includes(MODEL_FILE)) return undefined
  const stamps = await Promise.all(names.sort().map(async (name) => `${name} ${await fileStamp(join(folder, name))}`))
  return stamps.join('\n')
}

async function fileStamp(file: string): Promise<string> {
  const found = await stat(file, { bigint: true }).catch(() => undefined)
  return found ? `${found.size} ${found.mtimeNs} ${found.ino}` : 'gone'
}

function fault(pointer: string, detail: string): FlyweightError {
  return new FlyweightError('invalid_config', `model.yaml: ${pointer} ${detail}`, { errors: [{ pointer, detail }] })
}
