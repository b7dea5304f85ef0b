// Pages of text for PP-OCR's detector, with the boxes the lines were drawn in: judged by the boxes it finds, and by
// how its mask compares with fp32's.
import { join } from 'node:path'
import sharp from 'sharp'
import { mulberry32 } from '#flyweight/runtime/sample-inputs.js'
import { lineMaker } from '../texts.mjs'
import { glyphs, someStyle, weather } from '../typefaces.mjs'
import { boxesOf, boxF1, maskIou, maskOf } from './boxes.mjs'
import { answersOf, writeRows } from './rows.mjs'

const SIDE = 320
const CALIBRATION_PAGES = 32
const EVALUATION_PAGES = { full: 64, quick: 16 }
/** PaddleOCR normalises its pages so, in OpenCV's order of channels. */
const MEAN = [0.485, 0.456, 0.406]
const DEVIATION = [0.229, 0.224, 0.225]

export const detection = {
  metric: 'F1 of the boxes drawn (overlap by half)',
  async write(folder, { quick }) {
    const taken = new Set()
    const part = async (name, count, seed) => {
      const random = mulberry32(seed)
      const nextLine = lineMaker(random, { taken, longest: 16 })
      const pages = []
      for (let index = 0; index < count; index++) pages.push(await somePage(random, nextLine))
      const rows = []
      for (const { image } of pages) rows.push(await pageRow(image))
      writeRows(join(folder, name), { input: 'x', rowDims: [3, SIDE, SIDE], rows })
      return pages.map(({ boxes }) => boxes)
    }
    await part('calibration', CALIBRATION_PAGES, 606)
    return part('evaluation', quick ? EVALUATION_PAGES.quick : EVALUATION_PAGES.full, 707)
  },
  answers: (session, { evaluation }) =>
    answersOf(session, evaluation, {
      batch: 4,
      answer: (map) => ({ boxes: boxesOf(map, SIDE, SIDE), mask: Buffer.from(maskOf(map)).toString('base64') }),
    }),
  accuracy: (answers, drawn) => boxF1(answers.map(({ boxes }, page) => [boxes, drawn[page]])),
  agreement: (answers, reference) => maskIou(answers.map(({ mask }, page) => [Buffer.from(mask, 'base64'), Buffer.from(reference[page].mask, 'base64')])),
}

/** Lines below each other, some with a second one beside it; `boxes` are the glyphs' own. */
async function somePage(random, nextLine) {
  const paper = someStyle(random)
  const layers = []
  const boxes = []
  for (let top = 8 + random() * 24; ; ) {
    let lowest = top
    for (let left = 8 + random() * 60; left < SIDE - 60; ) {
      const style = { ...someStyle(random, { sizes: [14, 30] }), ink: paper.ink }
      const { data, info } = await glyphs(nextLine(), style)
      const [x, y] = [Math.round(left), Math.round(top)]
      if (x + info.width > SIDE - 6 || y + info.height > SIDE - 6) break
      layers.push({ input: data, left: x, top: y })
      boxes.push({ left: x, top: y, right: x + info.width, bottom: y + info.height })
      lowest = Math.max(lowest, y + info.height)
      left = x + info.width + 30 + random() * 40
    }
    top = lowest + 12 + random() * 20
    if (top > SIDE - 40) break
  }
  const blank = sharp({ create: { width: SIDE, height: SIDE, channels: 3, background: paper.paper } })
  return { image: await weather(await blank.composite(layers).png({ compressionLevel: 1 }).toBuffer(), paper, random), boxes }
}

async function pageRow(image) {
  const data = await sharp(image).removeAlpha().raw().toBuffer()
  const plane = SIDE * SIDE
  const row = new Float32Array(3 * plane)
  for (let channel = 0; channel < 3; channel++) {
    for (let i = 0; i < plane; i++) row[channel * plane + i] = (data[3 * i + 2 - channel] / 255 - MEAN[channel]) / DEVIATION[channel]
  }
  return row
}
