// From values to places on an axis, and the round values that get a tick. Knows neither SVG nor what is measured.

/** Ends of an axis in pixels, and what lies there. */
export interface Axis {
  place(value: number): number
  readonly ticks: readonly { readonly value: number; readonly text: string }[]
}

export interface AxisOptions {
  /** Least and greatest value to show. */
  domain: readonly [number, number]
  /** Pixels of the two; the first may be the greater. */
  range: readonly [number, number]
  /** Pixels that the axis goes on at both ends. */
  margin: number
  /** Roughly how many ticks. */
  count: number
}

/** @param options `domain` with the first below the second */
export function linearAxis({ domain: [low, high], range: [from, to], margin, count }: AxisOptions): Axis {
  const beyond = ((high - low) * margin) / Math.abs(to - from)
  return {
    place: (value) => from + ((value - low) / (high - low)) * (to - from),
    ticks: linearTicks(low - beyond, high + beyond, count),
  }
}

/** Equal ratios are equally far apart. @param options `domain` above 0, with the first below the second */
export function logAxis({ domain: [low, high], range: [from, to], margin, count }: AxisOptions): Axis {
  const scale = Math.log(high / low)
  const beyond = Math.exp((scale * margin) / Math.abs(to - from))
  return {
    place: (value) => from + (Math.log(value / low) / scale) * (to - from),
    ticks: logTicks(low / beyond, high * beyond, count),
  }
}

/** Multiples of 1, 2 or 5 times a power of ten. */
function linearTicks(low: number, high: number, count: number): Axis['ticks'] {
  const rough = (high - low) / count
  const power = Math.floor(Math.log10(rough))
  const factor = [1, 2, 5, 10].find((candidate) => candidate * 10 ** power >= rough * 0.99) ?? 10
  const step = factor * 10 ** power
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9))
  const first = Math.ceil(low / step - 1e-9)
  const last = Math.floor(high / step + 1e-9)
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, index) => {
    const value = (first + index) * step
    return { value, text: value.toFixed(digits) }
  })
}

/** 1, 2 and 5 times powers of ten; over a short way, where these are too few, what a linear axis has. */
function logTicks(low: number, high: number, count: number): Axis['ticks'] {
  if (high / low < 5) return linearTicks(low, high, count)
  const ticks: { value: number; text: string }[] = []
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
    for (const factor of [1, 2, 5]) {
      const value = factor * 10 ** power
      if (value >= low && value <= high) ticks.push({ value, text: value.toFixed(Math.max(0, -power)) })
    }
  }
  return ticks.length <= 2 * count ? ticks : ticks.filter(({ text }) => text.includes('1'))
}
