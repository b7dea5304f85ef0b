// Changes to images that do not change what they show, so that a model learns that they do not matter.
import { Type, type Static } from 'typebox'
import { FlyweightError } from '../errors.js'
import { mulberry32 } from '../runtime/sample-inputs.js'
import { dtypes, elementCount, type Tensor } from '../tensor/tensor.js'
import type { Dataset } from './dataset.js'

export const AugmentSchema = Type.Object(
  {
    shift: Type.Integer({ default: 0, minimum: 0, maximum: 1024, description: 'Pixels that an image moves at most, in each direction; zeros come in' }),
    mirror: Type.Boolean({ default: false, description: 'Exchange left and right in half of the images' }),
  },
  { additionalProperties: false, description: 'Random changes to images of [channels, height, width]' },
)

/**
 * The dataset with the images of one input moved and mirrored at random; which way depends on the seed and on how many
 * rows training saw before, so that training can be repeated and resumed.
 * @throws FlyweightError `invalid_input`, when read, for rows that are no images
 */
export function withAugmentation(data: Dataset, input: string, { shift, mirror }: Static<typeof AugmentSchema>, seed: number): Dataset {
  return {
    rows: data.rows,
    read: async (rows, position) => {
      const batch = await data.read(rows, position)
      const { dtype, dims, data: pixels } = batch[input] as Tensor
      if (dims.length !== 4) {
        const detail = `expected images of [channels, height, width] at input "${input}", got rows of dims [${dims.slice(1).join(', ')}]`
        throw new FlyweightError('invalid_input', `/augment: ${detail}`, { errors: [{ pointer: '/augment', detail }] })
      }
      const moved = new dtypes[dtype as 'float32'].array(pixels.length)
      const size = elementCount(dims.slice(1))
      for (let row = 0; row < rows.length; row++) {
        const random = mulberry32((Math.imul(position + row + 1, 0x9e3779b1) ^ seed) >>> 0)
        const by = () => Math.floor(random() * (2 * shift + 1)) - shift
        const place = { down: by(), right: by(), mirrored: mirror && random() < 0.5 }
        moveImage((pixels as Float32Array).subarray(row * size, (row + 1) * size), moved.subarray(row * size, (row + 1) * size), dims, place)
      }
      return { ...batch, [input]: { dtype, dims, data: moved } }
    },
  }
}

function moveImage(
  from: Float32Array,
  to: Float32Array,
  dims: readonly number[],
  { down, right, mirrored }: { down: number; right: number; mirrored: boolean },
): void {
  const [, channels = 1, height = 1, width = 1] = dims
  for (let channel = 0; channel < channels; channel++) {
    for (let y = Math.max(0, down); y < Math.min(height, height + down); y++) {
      for (let x = Math.max(0, right); x < Math.min(width, width + right); x++) {
        const source = mirrored ? width - 1 - (x - right) : x - right
        to[(channel * height + y) * width + x] = from[(channel * height + y - down) * width + source] as number
      }
    }
  }
}
