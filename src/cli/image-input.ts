// An image file as a float32 tensor [1, C, H, W], for trying image models from the command line.
// A model's own preprocessing (mean and deviation per channel, letter boxes) is its client's business.
import { FlyweightError } from '../errors.js'
import type { PixelRange } from '../tensor/pixel-range.js'
import { decodePixels, scaledPixels } from '../tensor/pixels.js'
import type { Tensor } from '../tensor/tensor.js'

/**
 * Decodes and resizes an image to the declared [N, C, H, W]; free dimensions (−1) keep the image's aspect.
 * @throws FlyweightError `invalid_input` where the input is not image-shaped or the bytes are no image.
 */
export async function imageTensor(bytes: Buffer, declared: readonly number[], range: PixelRange): Promise<Tensor> {
  const [, channels, height, width] = declared
  if (declared.length !== 4 || (channels !== 1 && channels !== 3) || height === undefined || width === undefined) {
    throw new FlyweightError('invalid_input', `an image needs an input shaped [N, 1 or 3, H, W]; this one is [${declared.join(', ')}]`)
  }
  const size = { channels, height: height > 0 ? height : undefined, width: width > 0 ? width : undefined } as const
  const pixels = await decodePixels(bytes, size).catch((cause: unknown) => {
    throw new FlyweightError('invalid_input', 'the file is not an image that can be decoded', { cause })
  })
  return { dtype: 'float32', dims: [1, channels, pixels.height, pixels.width], data: scaledPixels(pixels, { range }, true) }
}
