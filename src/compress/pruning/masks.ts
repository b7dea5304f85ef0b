// Which weights go, given a score for each: the lowest of all, of each row, or of each block of M. Exact and
// deterministic: of equal scores the earlier goes first. Pure; scores are float32 and not negative.
import type { WeightLayout } from './weight-layouts.js'

/** Scores below `bits` (as float32 bit patterns, whose order is that of the numbers) go, and so do the first `ties` that equal it. */
interface Cut {
  bits: number
  ties: number
}

/**
 * Finds where to cut so that exactly `count` scores go. Two counting passes over the halves of the bit patterns
 * (radix selection) instead of a sort, so that all weights of a model can be compared without holding their
 * scores at once: `chunks` is walked twice and must give the same each time.
 */
export function cutAt(chunks: () => Iterable<Float32Array>, count: number): Cut {
  if (count <= 0) return { bits: 0, ties: 0 }
  const [high, above] = bucketOf(chunks, count, (bits) => bits >>> 16)
  const [low, ties] = bucketOf(chunks, above, (bits) => (bits >>> 16 === high ? bits & 0xffff : -1))
  return { bits: high * 65536 + low, ties }
}

/** The bucket that holds the `count`-th lowest score, and how many of that bucket are among the `count` lowest. */
function bucketOf(chunks: () => Iterable<Float32Array>, count: number, keyOf: (bits: number) => number): [bucket: number, inside: number] {
  const counts = new Float64Array(65536)
  for (const scores of chunks()) {
    for (const bits of bitsOf(scores)) {
      const key = keyOf(bits)
      if (key >= 0) counts[key]! += 1
    }
  }
  let before = 0
  for (let bucket = 0; bucket < counts.length; bucket++) {
    const here = counts[bucket] as number
    if (before + here >= count) return [bucket, count - before]
    before += here
  }
  throw new RangeError(`${count} is more than there are scores`)
}

/** Calls `drop` with the index of every score that the cut removes; ties are used up, so that chunks are cut in order. */
export function applyCut(scores: Float32Array, cut: Cut, drop: (index: number) => void): void {
  const bits = bitsOf(scores)
  for (let index = 0; index < bits.length; index++) {
    const own = bits[index] as number
    if (own > cut.bits || (own === cut.bits && cut.ties-- <= 0)) continue
    drop(index)
  }
}

/** Drops the share `ratio` of every row's lowest scores, rounded so that the share of all rows together is exact. */
export function dropByRow(scores: Float32Array, layout: WeightLayout, ratio: number, drop: (index: number) => void): void {
  const { rows, inputs, inputStride, kernel, start } = layout
  const length = inputs * kernel
  const own = new Float32Array(length)
  let dropped = 0
  for (let row = 0; row < rows; row++) {
    const first = start(row)
    const indexOf = (position: number) => first + Math.floor(position / kernel) * inputStride + (position % kernel)
    for (let position = 0; position < length; position++) own[position] = scores[indexOf(position)] as number
    const count = Math.round(ratio * (row + 1) * length) - dropped
    dropped += count
    if (count > 0) applyCut(own, cutOfRow(own, count), (position) => drop(indexOf(position)))
  }
}

/** As cutAt, by a sort, which is faster for the few scores of a row. */
function cutOfRow(scores: Float32Array, count: number): Cut {
  const sorted = bitsOf(Float32Array.from(scores).sort())
  const bits = sorted[count - 1] as number
  return { bits, ties: count - sorted.indexOf(bits) }
}

/** Drops all but the `keep` highest of every `of` consecutive inputs of a row; `of` divides the layout's inputs. */
export function dropByBlock(scores: Float32Array, layout: WeightLayout, { keep, of }: { keep: number; of: number }, drop: (index: number) => void): void {
  const { rows, inputs, inputStride, kernel, start } = layout
  const block = new Float32Array(of)
  for (let row = 0; row < rows; row++) {
    for (let input = 0; input < inputs; input += of) {
      for (let k = 0; k < kernel; k++) {
        const first = start(row) + input * inputStride + k
        for (let i = 0; i < of; i++) block[i] = scores[first + i * inputStride] as number
        applyCut(block, cutOfRow(block, of - keep), (i) => drop(first + i * inputStride))
      }
    }
  }
}

function bitsOf(scores: Float32Array): Uint32Array {
  return new Uint32Array(scores.buffer, scores.byteOffset, scores.length)
}
