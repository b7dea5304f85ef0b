// Receiving an uploaded model: a raw .onnx body, or multipart with external data and a model.yaml.
// Everything is streamed to a folder of its own, within the limit; the caller removes the folder.
import { createWriteStream } from 'node:fs'
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { Transform, type Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { FastifyRequest } from 'fastify'
import { parse } from 'yaml'
import { FlyweightError, messageOf } from '../../errors.js'
import { ManifestSchema, type Manifest } from '../../registry/manifest.js'
import { describe } from '../../wire/describe.js'
import { checkOf } from '../../wire/check.js'

export interface Upload {
  modelFile: string
  externalFiles: string[]
  manifest?: Manifest
  /** Text fields of a multipart body. */
  name?: string
  version?: string
}

const checkManifest = checkOf(ManifestSchema, '/config')
const MODEL_FILE = 'model.onnx'

/** Runs `use` with the received upload; what it does not take away is deleted afterwards. */
export async function withUpload<Result>(
  request: FastifyRequest,
  limits: { directory: string; maxBytes: number },
  use: (upload: Upload) => Promise<Result>,
): Promise<Result> {
  await mkdir(limits.directory, { recursive: true })
  const folder = await mkdtemp(join(limits.directory, 'upload-'))
  try {
    return await use(
      request.isMultipart() ? await receiveParts(request, folder, limits.maxBytes).catch(unreadable) : await receiveRaw(request, folder, limits.maxBytes),
    )
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

async function receiveRaw(request: FastifyRequest, folder: string, maxBytes: number): Promise<Upload> {
  const modelFile = join(folder, MODEL_FILE)
  await save(request.body as Readable, modelFile, maxBytes)
  return { modelFile, externalFiles: [] }
}

async function receiveParts(request: FastifyRequest, folder: string, maxBytes: number): Promise<Upload> {
  const modelFile = join(folder, MODEL_FILE)
  const upload: Upload = { modelFile, externalFiles: [] }
  let received = 0
  let hasModel = false
  for await (const part of request.parts()) {
    if (part.type === 'file') {
      if (part.fieldname === 'model' && hasModel) throw refused('/model', 'is there twice, expected one .onnx file')
      const file = part.fieldname === 'model' ? modelFile : join(folder, externalName(part.fieldname, part.filename))
      received += await save(part.file, file, maxBytes - received)
      if (part.fieldname === 'model') hasModel = true
      else upload.externalFiles.push(file)
    } else if (part.fieldname === 'config') upload.manifest = readManifest(String(part.value))
    else if (part.fieldname === 'name' || part.fieldname === 'version') upload[part.fieldname] = String(part.value)
    else throw unknownField(part.fieldname)
  }
  if (!hasModel) throw refused('/model', 'is missing, expected an .onnx file')
  return upload
}

/** The multipart parser throws plain errors for what it cannot read; errors of the disk have a code. */
function unreadable(error: unknown): never {
  if (error instanceof Error && error.constructor === Error && (error as NodeJS.ErrnoException).code === undefined) {
    throw new FlyweightError('malformed', `the body is not multipart/form-data: ${error.message}`, { cause: error })
  }
  throw error
}

function externalName(field: string, filename: string): string {
  if (field !== 'data') throw unknownField(field)
  if (!/^[\w][\w.-]*$/.test(filename) || filename === MODEL_FILE) {
    throw refused('/data', `has the filename ${describe(filename)}, expected the plain name that the model refers to`)
  }
  return filename
}

function readManifest(text: string): Manifest {
  let manifest: unknown
  try {
    manifest = parse(text) ?? {}
  } catch (error) {
    throw refused('/config', `is not YAML: ${messageOf(error)}`)
  }
  checkManifest(manifest)
  return manifest as Manifest
}

/** @returns bytes written */
async function save(source: Readable, file: string, maxBytes: number): Promise<number> {
  let bytes = 0
  const count = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      bytes += chunk.byteLength
      if (bytes > maxBytes) done(new FlyweightError('too_large', `the upload is larger than ${maxBytes} bytes`))
      else done(null, chunk)
    },
  })
  await pipeline(source, count, createWriteStream(file, { flags: 'wx' }))
  return bytes
}

function unknownField(name: string): FlyweightError {
  const detail = 'is not a field here; expected model, data, config, name, version'
  return new FlyweightError('unknown_field', `/${name} ${detail}`, { errors: [{ pointer: `/${name}`, detail }] })
}

function refused(pointer: string, detail: string): FlyweightError {
  return new FlyweightError('malformed', `${pointer} ${detail}`, { errors: [{ pointer, detail }] })
}
