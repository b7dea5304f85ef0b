// Reading model.yaml: from text to a checked manifest, with errors that name the field at fault.
import { readFile } from 'node:fs/promises'
import Value from 'typebox/value'
import { parse } from 'yaml'
import { FlyweightError, messageOf, type FieldError } from '../errors.js'
import { ManifestSchema, type Manifest } from './manifest.js'

const MAX_BYTES = 256 * 1024

/**
 * Text and content of a model.yaml; both empty when there is no such file.
 * @throws FlyweightError `invalid_config` naming every field at fault, what came and what was expected.
 */
export async function readManifestFile(file: string): Promise<{ text: string; manifest: Manifest }> {
  let text: string
  try {
    text = await readFile(file, 'utf8')
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return { text: '', manifest: {} }
    throw new FlyweightError('invalid_config', `model.yaml cannot be read: ${messageOf(cause)}`, { cause })
  }
  return { text, manifest: parseManifest(text) }
}

function parseManifest(text: string): Manifest {
  if (text.length > MAX_BYTES) throw new FlyweightError('invalid_config', `model.yaml is larger than ${MAX_BYTES} bytes`)
  let content: unknown
  try {
    content = parse(text) ?? {}
  } catch (cause) {
    throw new FlyweightError('invalid_config', `model.yaml is not YAML: ${messageOf(cause).split('\n')[0]}`, { cause })
  }
  if (Value.Check(ManifestSchema, content)) return content
  const errors = Value.Errors(ManifestSchema, content).flatMap((error): FieldError[] => {
    if (error.keyword === 'additionalProperties') {
      return error.params.additionalProperties.map((name) => ({ pointer: `${error.instancePath}/${name}`, detail: 'is not a field of model.yaml' }))
    }
    const got = JSON.stringify(error.instancePath === '' ? content : Value.Pointer.Get(content, error.instancePath))
    const expected = error.keyword === 'enum' ? `must be one of ${error.params.allowedValues.join(', ')}` : error.message
    return [{ pointer: error.instancePath || '/', detail: `${expected}; got ${got}` }]
  })
  throw new FlyweightError('invalid_config', `model.yaml: ${errors.map(({ pointer, detail }) => `${pointer} ${detail}`).join('; ')}`, { errors })
}
