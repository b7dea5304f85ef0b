// How the images of a folder become numbers: `images.yaml` beside them. Nothing in a model says it, and pixels on
// another scale than the model was trained on would calibrate it on inputs that it never gets.
import { readFile } from 'node:fs/promises'
import { Type, type Static } from 'typebox'
import Value from 'typebox/value'
import { parse } from 'yaml'
import { messageOf } from '../errors.js'
import { pixelRanges } from '../tensor/pixel-range.js'
import { segmentFault } from './sample-segment.js'

export const IMAGE_SETTINGS_FILE = 'images.yaml'

const perChannel = (options: { exclusiveMinimum?: number }) => Type.Array(Type.Number(options), { minItems: 1, maxItems: 3 })

const ImageSettingsSchema = Type.Object(
  {
    range: Type.Enum([...pixelRanges], { default: '0..1', description: 'What black and white become' }),
    mean: Type.Optional(perChannel({})),
    std: Type.Optional(perChannel({ exclusiveMinimum: 0 })),
    bgr: Type.Boolean({ default: false, description: 'Blue first' }),
    classes: Type.Optional(Type.Array(Type.String({ minLength: 1 }), { minItems: 1, description: 'Names of folders in the order of the classes' })),
  },
  { additionalProperties: false },
)

export type ImageSettings = Static<typeof ImageSettingsSchema>

/**
 * Settings of a folder, completed; `text` as it was written.
 * @throws FlyweightError `invalid_input` naming the field, what came and what was expected
 */
export async function readImageSettings(file: string, channels: number): Promise<{ settings: ImageSettings; text: string }> {
  const text = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return ''
    throw segmentFault(IMAGE_SETTINGS_FILE, `it cannot be read: ${messageOf(error)}`, error)
  })
  let content: unknown
  try {
    content = Value.Default(ImageSettingsSchema, parse(text) ?? {})
  } catch (cause) {
    throw segmentFault(IMAGE_SETTINGS_FILE, `it is not YAML: ${messageOf(cause).split('\n')[0]}`, cause)
  }
  if (!Value.Check(ImageSettingsSchema, content)) {
    const [error] = Value.Errors(ImageSettingsSchema, content)
    const known = Object.keys(ImageSettingsSchema.properties)
    const unknown = Object.keys(content ?? {}).find((name) => !known.includes(name))
    if (unknown !== undefined) throw segmentFault(IMAGE_SETTINGS_FILE, `"${unknown}" is no setting, expected one of ${known.join(', ')}`)
    const expected = error?.keyword === 'enum' ? `must be one of ${error.params.allowedValues.join(', ')}` : error?.message
    const got = JSON.stringify(error?.instancePath ? Value.Pointer.Get(content, error.instancePath) : content)
    throw segmentFault(IMAGE_SETTINGS_FILE, `${error?.instancePath || '/'} ${expected}; got ${got}`)
  }
  for (const name of ['mean', 'std'] as const) {
    const values = content[name]
    if (values !== undefined && values.length !== channels)
      throw segmentFault(IMAGE_SETTINGS_FILE, `/${name} has ${values.length} numbers, expected ${channels}: one a channel of the model's input`)
  }
  return { settings: content, text }
}
