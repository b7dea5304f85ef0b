// Renders the sample inputs in models/*/samples and the images in examples/images: `npm run samples`.
// Seeded: the same fonts give the same files. The committed files need no fonts; to make them anew:
//   apt-get install fonts-dejavu-core fonts-liberation fonts-freefont-ttf
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import sharp from 'sharp'
import { mulberry32 } from '../dist/runtime/sample-inputs.js'
import { writeNpz } from '../dist/tensor/npz.js'
import { imageToRow } from '../examples/ocr/image.mjs'

const root = (path) => fileURLToPath(new URL(`../${path}`, import.meta.url))
const FONTS = ['DejaVu Sans', 'Liberation Serif', 'FreeMono', 'Liberation Sans', 'DejaVu Serif', 'DejaVu Sans Mono']
/** Every font of the examples is one that calibration has seen; no line is. */
const EXAMPLE_FONTS = FONTS.slice(0, 3)
const EXAMPLES = [
  'Invoice 2024-0193',
  'Total: 1,284.50 EUR',
  'Order no. A-77310',
  'Gate B42 closes 18:05',
  'Platform 9, car 14',
  'Tel. +49 30 901820',
  'Serial QX-5581-K',
  'Best before 12/2027',
  'Room 304, 2nd floor',
  'Flight LH 2031',
  'Net weight 750 g',
  'Pay within 30 days',
  '118 Main Street',
  'Speed limit 80 km/h',
  'Lot 0042, batch 7',
]
const WORDS =
  'the quick brown fox jumps over lazy dog Account Balance March Paris London Berlin ticket number Receipt customer water bridge morning Winter yellow Engine Window Project quality garden Zebra Kitchen bottle music October train Station exit Ground zone value Market price Hotel night service box unit June Avenue North Office paper light Doctor Garage'.split(
    ' ',
  )
const ROWS_A_FILE = 16

const random = mulberry32(20240193)
const pick = (list) => list[Math.floor(random() * list.length)]

/** A line of 8 to 20 characters that no example has. */
function someLine() {
  for (;;) {
    const parts = Array.from({ length: 1 + Math.floor(random() * 3) }, () =>
      random() < 0.6
        ? pick(WORDS)
        : pick([
            () => String(Math.floor(random() * 10_000)),
            () => (random() * 1000).toFixed(2),
            () => `${Math.floor(random() * 24)}:${10 + Math.floor(random() * 50)}`,
          ])(),
    )
    const line = parts.join(pick([' ', ' ', ', ', '-']))
    if (line.length >= 8 && line.length <= 20 && !EXAMPLES.includes(line)) return line
  }
}

/** PNG of one line, about `size` pixels high, dark on light. */
async function render(text, { font, size = 64, ink = '#111', paper = '#fff', bold = false }) {
  const escaped = text.replaceAll('&', '&amp;').replaceAll('<', '&lt;')
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="${size * text.length}" height="${size}"><rect width="100%" height="100%" fill="${paper}"/><text x="${size / 4}" y="${size * 0.7}" font-family="${font}" font-weight="${bold ? 'bold' : 'normal'}" font-size="${size * 0.6}" fill="${ink}">${escaped}</text></svg>`
  const { data, info } = await sharp(Buffer.from(svg)).trim({ background: paper }).toBuffer({ resolveWithObject: true })
  const margin = Math.round(size * 0.2)
  const sides = {
    top: Math.max(0, Math.floor((size - info.height) / 2)),
    bottom: Math.max(0, Math.ceil((size - info.height) / 2)),
    left: margin,
    right: margin,
  }
  return sharp(data)
    .extend({ ...sides, background: paper })
    .png({ compressionLevel: 9, palette: true })
    .toBuffer()
}

function someStyle() {
  return {
    font: pick(FONTS),
    size: 40 + Math.floor(random() * 48),
    bold: random() < 0.25,
    ...pick([{}, {}, { ink: '#333', paper: '#eee' }, { ink: '#102a6b', paper: '#fffbe6' }]),
  }
}

/** Writes rows as samples/<nn>.npz, with labels where there are any. */
async function writeSamples(model, rowDims, rows, labels) {
  const folder = root(`models/${model}/samples`)
  await rm(folder, { recursive: true, force: true })
  await mkdir(folder, { recursive: true })
  for (let from = 0; from < rows.length; from += ROWS_A_FILE) {
    const part = rows.slice(from, from + ROWS_A_FILE)
    const data = new Float32Array(part.length * part[0].length)
    for (const [index, row] of part.entries()) data.set(row, index * row.length)
    const arrays = new Map([['x', { dtype: 'float32', dims: [part.length, ...rowDims], data }]])
    if (labels) arrays.set('labels', { dtype: 'int64', dims: [part.length], data: BigInt64Array.from(labels.slice(from, from + ROWS_A_FILE), BigInt) })
    await writeFile(`${folder}/${String(from / ROWS_A_FILE).padStart(2, '0')}.npz`, writeNpz(arrays))
  }
}

async function recognizer(count) {
  const rows = []
  for (let index = 0; index < count; index++) rows.push(await imageToRow(await render(someLine(), someStyle())))
  await writeSamples('ocr-recognizer', [3, 48, 320], rows)
}

async function direction(count) {
  const rows = []
  const labels = []
  for (let index = 0; index < count; index++) {
    const image = await render(someLine(), someStyle())
    const turned = index % 2
    rows.push(await imageToRow(turned ? await sharp(image).rotate(180).toBuffer() : image, 192))
    labels.push(turned)
  }
  await writeSamples('ocr-direction', [3, 48, 192], rows, labels)
}

async function examples() {
  const folder = root('examples/images')
  await rm(folder, { recursive: true, force: true })
  await mkdir(folder, { recursive: true })
  const lines = []
  for (const [index, text] of EXAMPLES.entries()) {
    const font = EXAMPLE_FONTS[index % EXAMPLE_FONTS.length]
    const image = `${String(index + 1).padStart(2, '0')}.png`
    await writeFile(`${folder}/${image}`, await render(text, { font }))
    lines.push({ image, text, font })
  }
  await writeFile(`${folder}/lines.json`, `${JSON.stringify(lines, null, 2)}\n`)
}

await recognizer(96)
await direction(64)
await examples()
