// Text set in typefaces that come from npm packages, so that every machine renders the same pixels whatever fonts
// it has. Gives images; which texts, and what a model makes of them, is the tasks' business.
import sharp from 'sharp'
import { assetFile } from './assets.mjs'

const google = (name, family, styles) =>
  styles.map(([style, file]) => ({
    font: `${family}${style}`,
    file: assetFile(`@expo-google-fonts/${name}`, `${file}/${family.replaceAll(' ', '')}_${file}.ttf`),
  }))
const dejavu = (family, styles) =>
  styles.map((style) => ({
    font: `DejaVu ${family} ${style}`.trim(),
    file: assetFile('dejavu-fonts-ttf', `ttf/DejaVu${family.replaceAll(' ', '')}${style === '' ? '' : `-${style.replaceAll(' ', '')}`}.ttf`),
  }))

const FOUR = [
  ['', '400Regular'],
  [' Bold', '700Bold'],
  [' Italic', '400Regular_Italic'],
  [' Bold Italic', '700Bold_Italic'],
]

/** Sans, serif and fixed width, upright and slanted, light to black: `font` as Pango names it, and its file. */
const typefaces = [
  ...google('lora', 'Lora', FOUR),
  ...google('courier-prime', 'Courier Prime', FOUR),
  ...google('source-sans-3', 'Source Sans 3', [...FOUR, [' Light', '300Light'], [' Black', '900Black']]),
  ...dejavu('Sans', ['', 'Bold', 'Oblique', 'Bold Oblique']),
  ...dejavu('Sans Condensed', ['', 'Bold']),
  ...dejavu('Serif', ['', 'Bold', 'Italic', 'Bold Italic']),
  ...dejavu('Sans Mono', ['', 'Bold', 'Oblique', 'Bold Oblique']),
]

const INKS = [
  { ink: '#111111', paper: '#ffffff' },
  { ink: '#333333', paper: '#eeeeee' },
  { ink: '#102a6b', paper: '#fffbe6' },
  { ink: '#5a1a1a', paper: '#f4f1ea' },
  { ink: '#f5f5f5', paper: '#2b3a42' },
]

/** A typeface, a size in pixels, colours, blur and noise, all by `random`. */
export function someStyle(random, { sizes = [20, 56] } = {}) {
  const pick = (list) => list[Math.floor(random() * list.length)]
  return {
    ...pick(typefaces),
    ...pick(INKS),
    size: Math.round(sizes[0] + random() * (sizes[1] - sizes[0])),
    blur: random() < 0.3 ? 0.3 + random() * 0.5 : 0,
    noise: random() < 0.5 ? random() * 8 : 0,
  }
}

/** The glyphs alone, cut to their ink, on nothing: `{ data: PNG, info: { width, height } }`. */
export function glyphs(text, { font, file, size, ink }) {
  const escaped = text.replaceAll('&', '&amp;').replaceAll('<', '&lt;')
  return sharp({ text: { text: `<span foreground="${ink}">${escaped}</span>`, font: `${font} ${size}`, fontfile: file, rgba: true, dpi: 72 } })
    .png({ compressionLevel: 1 })
    .toBuffer({ resolveWithObject: true })
}

/** PNG of one line as a detector would cut it out, with a margin that varies. */
export async function renderLine(text, style, random) {
  const { data } = await glyphs(text, style)
  const margin = () => Math.round(style.size * (0.1 + 0.15 * random()))
  const image = sharp(data).extend({ top: margin(), bottom: margin(), left: margin(), right: margin(), background: { r: 0, g: 0, b: 0, alpha: 0 } })
  return weather(await image.flatten({ background: style.paper }).png({ compressionLevel: 1 }).toBuffer(), style, random)
}

/** The blur and the noise of a camera, on an image without transparency; PNG. */
export async function weather(image, { blur, noise }, random) {
  const { data, info } = await (blur > 0 ? sharp(image).blur(blur) : sharp(image)).removeAlpha().raw().toBuffer({ resolveWithObject: true })
  // Three uniforms of variance 1/3 add up to variance 1. The array clamps.
  const pixels = new Uint8ClampedArray(data)
  if (noise > 0) for (let i = 0; i < pixels.length; i++) pixels[i] += noise * (2 * (random() + random() + random()) - 3)
  return sharp(pixels, { raw: { width: info.width, height: info.height, channels: info.channels } })
    .png({ compressionLevel: 1 })
    .toBuffer()
}
