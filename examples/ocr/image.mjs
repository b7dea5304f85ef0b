// From an image of one line of text to the row PP-OCR's recogniser reads: height 48, as wide as the text
// needs but at most 320, channels first, values −1..1, the rest of the width filled with zeros.
import sharp from 'sharp'

export const HEIGHT = 48
export const WIDTH = 320

/** `image` is a file or a buffer that sharp can read. Returns Float32Array of 3 × 48 × `width`. */
export async function imageToRow(image, width = WIDTH) {
  const { data, info } = await sharp(image)
    .flatten({ background: 'white' })
    .toColourspace('srgb')
    .resize({ height: HEIGHT, width, fit: 'inside', withoutEnlargement: false })
    .removeAlpha()
    .raw()
    .toBuffer({ resolveWithObject: true })
  const row = new Float32Array(3 * HEIGHT * width)
  for (let channel = 0; channel < 3; channel++) {
    // PP-OCR was trained on images in OpenCV's order: blue, green, red.
    const source = info.channels === 1 ? 0 : 2 - channel
    for (let y = 0; y < info.height; y++) {
      for (let x = 0; x < info.width; x++) {
        row[(channel * HEIGHT + y) * width + x] = data[(y * info.width + x) * info.channels + source] / 127.5 - 1
      }
    }
  }
  return row
}
