// An image file as a float32 tensor [1, C, H, W], for trying image models from the command line.
// A model's own preprocessing (mean and deviation per channel, letter boxes) is its client's business.
import sharp from 'sharp'
import { FlyweightError } from '../errors.js'
import type { Tensor } from '../tensor/tensor.js'
import { ranges, type PixelRange } from './pixel-range.js'

/**
 * Decodes and resizes an image to the declared [N, C, H, W]; free dimensions (−1) keep the image's aspect.
 * @throws FlyweightError `invalid_input` where the input is not image-shaped or the bytes are no image.
 */
export async function imageTensor(bytes: Buffer, declared: readonly number[], range: PixelRange): Promise<Tensor> {
  const [, channels, height, width] = declared
  if (declared.length !== 4 || (channels !== 1 && channels !== 3) || height === undefined || width === undefined) {
    throw new FlyweightError('invalid_input', `an image needs an input shaped [N, 1 or 3, H, W]; this one is [${declared.join(', ')}]`)
  }
  const decoded = sharp(bytes)
    .removeAlpha()
    .toColourspace(channels === 1 ? 'b-w' : 'srgb')
    .resize({ ...(height > 0 ? { height } : {}), ...(width > 0 ? { width } : {}), ...(height > 0 && width > 0 ? { fit: 'fill' } : {}) })
    .raw()
  const { data, info } = await decoded.toBuffer({ resolveWithObject: true }).catch((cause: unknown) => {
    throw new FlyweightError('invalid_input', 'the file is not an image that can be decoded', { cause })
  })
  const [low, high] = ranges[range]
  const plane = info.width * info.height
  const values = new Float32Array(channels * plane)
  for (let pixel = 0; pixel < plane; pixel++) {
    for (let channel = 0; channel < channels; channel++) {
      values[channel * plane + pixel] = low + ((data[pixel * info.channels + channel] ?? 0) / 255) * (high - low)
    }
  }
  return { dtype: 'float32', dims: [1, channels, info.height, info.width], data: values }
}
