// Lines of text for PP-OCR: the recogniser's are judged by the characters it reads, the direction classifier's by
// whether it sees which are upside down. Lines judged on are others than those calibrated on.
import { join } from 'node:path'
import sharp from 'sharp'
import { mulberry32 } from '#flyweight/runtime/sample-inputs.js'
import { HEIGHT, imageToRow, WIDTH } from '../../examples/ocr/image.mjs'
import { characterAccuracy, decode } from '../../examples/ocr/text.mjs'
import { lineMaker } from '../texts.mjs'
import { renderLine, someStyle } from '../typefaces.mjs'
import { answersOf, argmax, shareEqual, writeRows } from './rows.mjs'

const CALIBRATION_LINES = 64
const EVALUATION_LINES = { full: 320, quick: 64 }
const BATCH = 8
const DIRECTION_WIDTH = 192
/** The classifier reads rows of 4 × their height; longer lines would be squeezed. */
const LONGEST_TURNED = 12

export const reading = {
  metric: 'characters read right (1 − edits ÷ characters)',
  async write(folder, { quick }) {
    const taken = new Set()
    const part = async (name, count, seed) => {
      const random = mulberry32(seed)
      const nextLine = lineMaker(random, { taken })
      const texts = Array.from({ length: count }, nextLine)
      const rows = []
      for (const text of texts) rows.push(await imageToRow(await renderLine(text, someStyle(random), random)))
      writeRows(join(folder, name), { input: 'x', rowDims: [3, HEIGHT, WIDTH], rows })
      return texts
    }
    await part('calibration', CALIBRATION_LINES, 101)
    return part('evaluation', quick ? EVALUATION_LINES.quick : EVALUATION_LINES.full, 202)
  },
  answers: (session, { evaluation }) =>
    answersOf(session, evaluation, { batch: BATCH, answer: (scores, [steps, classes]) => decode(scores, steps, classes).trim() }),
  accuracy: shareRead,
  agreement: shareRead,
}

/** More edits than characters are as bad as none read. */
function shareRead(answers, texts) {
  return Math.max(0, characterAccuracy(answers.map((answer, index) => [answer, texts[index]])))
}

export const direction = {
  metric: 'lines whose direction is right',
  async write(folder, { quick }) {
    const taken = new Set()
    const part = async (name, count, seed) => {
      const random = mulberry32(seed)
      const nextLine = lineMaker(random, { taken, longest: LONGEST_TURNED })
      const labels = Array.from({ length: count }, (_, index) => index % 2)
      const rows = []
      for (const turned of labels) {
        const image = await renderLine(nextLine(), someStyle(random), random)
        rows.push(await imageToRow(turned ? await sharp(image).rotate(180).toBuffer() : image, DIRECTION_WIDTH))
      }
      writeRows(join(folder, name), { input: 'x', rowDims: [3, HEIGHT, DIRECTION_WIDTH], rows, labels })
      return labels
    }
    await part('calibration', CALIBRATION_LINES, 303)
    return part('evaluation', quick ? EVALUATION_LINES.quick : EVALUATION_LINES.full, 404)
  },
  answers: (session, { evaluation }) => answersOf(session, evaluation, { batch: BATCH, answer: argmax }),
  accuracy: shareEqual,
  agreement: shareEqual,
}
