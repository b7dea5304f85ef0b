import { trainingPlot } from '#flyweight/chart/training-plot.js'
import type { CurvePoint } from '#flyweight/measurements.js'
import fc from 'fast-check'
import sharp from 'sharp'
import { describe, expect, it } from 'vitest'

type Kind = 'training' | 'held-out' | 'accuracy'

const point = (epoch: number, loss: number, heldOut: number, accuracy?: number): CurvePoint => ({
  step: 10 * epoch,
  epoch,
  loss,
  heldOut: { loss: heldOut, ...(accuracy === undefined ? {} : { accuracy }) },
})
const curve = [point(1, 2, 2.2, 0.5), point(2, 1, 1.4, 0.9), point(3, 0.5, 1.2, 0.85)]
const long = (count: number) => Array.from({ length: count }, (_, index) => point(index + 1, 2 / (index + 1), 1 + 1 / (index + 1), 1 - 0.5 / (index + 1)))

/** Centres of the dots of a series, in the order drawn. */
function dots(svg: string, kind: Kind) {
  return [...svg.matchAll(/<circle class="dot ([\w-]+)" cx="([-\d.]+)" cy="([-\d.]+)" r="[\d.]+"><title>/g)].flatMap(([, found, x, y]) =>
    found === kind ? [{ x: Number(x), y: Number(y) }] : [],
  )
}

const best = (svg: string) => [...svg.matchAll(/<circle class="best" cx="([\d.]+)" cy="([\d.]+)"/g)].map(([, x, y]) => ({ x: Number(x), y: Number(y) }))
const crosses = (svg: string, kind: Kind) =>
  [...svg.matchAll(new RegExp(`<path class="out ${kind}" d="M([\\d.]+) ([\\d.]+)l6 6`, 'g'))].map(([, x, y]) => ({ x: Number(x) + 3, y: Number(y) + 3 }))
const description = (svg: string) => /<desc id="desc">(.*?)<\/desc>/.exec(svg)?.[1] ?? ''

/** Boxes of all horizontal texts, by a width per character that is less than that of any common fixed-width font. */
function texts(svg: string) {
  return [...svg.matchAll(/<text x="([-\d.]+)" y="([-\d.]+)"(?: class="([\w ]+)")?>([^<]*)<\/text>/g)].map(([, x, y, style = '', escaped = '']) => {
    const content = escaped.replace(/&[#\w]+;/g, '?')
    const width = Array.from(content).length * (style.includes('title') ? 15 : 12) * 0.6
    const left = Number(x) - (style.includes('end') ? width : style.includes('middle') ? width / 2 : 0)
    return { content, left, right: left + width, top: Number(y) - 10, bottom: Number(y) + 3 }
  })
}

function overlaps(svg: string) {
  const all = texts(svg)
  return all.flatMap((a, index) =>
    all
      .slice(index + 1)
      .filter((b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom)
      .map((b) => `${a.content} | ${b.content}`),
  )
}

/** The renderer parses XML strictly, and refuses what is not well-formed. */
const render = (svg: string) => sharp(Buffer.from(svg)).raw().toBuffer()

const loss = fc.oneof(
  { weight: 4, arbitrary: fc.double({ min: 0, max: 10, noNaN: true }) },
  { weight: 1, arbitrary: fc.double() },
  fc.constantFrom(0, -0.1, Number.MIN_VALUE, Number.MAX_VALUE, -Number.MAX_VALUE, 1e25, null as unknown as number),
)
const accuracy = fc.oneof({ weight: 5, arbitrary: fc.double({ min: 0, max: 1, noNaN: true }) }, fc.constantFrom(undefined, 0, 1, NaN, 7))
const curves = fc
  .array(fc.record({ loss, heldOut: loss, accuracy, length: fc.constantFrom(1, 1.024, 0.01) }), { maxLength: 70 })
  .map((values) => values.map(({ loss: each, heldOut, accuracy: share, length }, index) => point((index + 1) * length, each, heldOut, share)))

describe('trainingPlot', () => {
  it('is well-formed, without NaN, with all it draws inside and no text on another, whatever the curve', async () => {
    await fc.assert(
      fc.asyncProperty(curves, async (points) => {
        const svg = trainingPlot(points)
        await render(svg)
        expect(svg).not.toMatch(/NaN|Infinity|undefined|null/)
        expect(overlaps(svg)).toEqual([])
        expect(texts(svg).filter(({ left, right }) => left < 24 || right > 880)).toEqual([])
        const [, height] = /height="(\d+)"/.exec(svg)!
        const numbers = [...svg.matchAll(/<path class="line[^"]*" d="M([^"h]*)"/g)].flatMap(([, d = '']) =>
          d.split('L').map((pair) => pair.split(' ').map(Number)),
        )
        const places = [
          ...(['training', 'held-out', 'accuracy'] as const).flatMap((kind) => dots(svg, kind)),
          ...best(svg),
          ...numbers.map(([x = NaN, y = NaN]) => ({ x, y })),
        ]
        expect(places.filter(({ x, y }) => !(x > 96 && x < 856 && y > 104 && y < Number(height)))).toEqual([])
      }),
      { numRuns: 60 },
    )
  }, 60_000)

  it.each([0, 1, 2, 30, 1000])('draws %i points without one text on another', async (count) => {
    const svg = trainingPlot(long(count))
    await render(svg)
    expect(overlaps(svg)).toEqual([])
    expect(dots(svg, 'held-out')).toHaveLength(count > 60 ? 0 : count)
    const line = /<path class="line held-out" d="M([^"h]+)"/.exec(svg)?.[1] ?? ''
    expect(line === '' ? 0 : line.split('L').length).toBe(count < 2 ? 0 : count)
    expect(best(svg)).toHaveLength(count === 0 ? 0 : 2)
  })

  it('puts later epochs to the right, greater values higher, and the accuracy in a panel below', () => {
    const svg = trainingPlot(curve)
    const [training, heldOut, accuracies] = (['training', 'held-out', 'accuracy'] as const).map((kind) => dots(svg, kind)) as [
      { x: number; y: number }[],
      ...{ x: number; y: number }[][],
    ]
    for (const series of [training, heldOut!, accuracies!]) {
      expect(series).toHaveLength(3)
      expect(series[1]!.x - series[0]!.x).toBeCloseTo(series[2]!.x - series[1]!.x, 1)
      expect(series[1]!.x).toBeGreaterThan(series[0]!.x)
    }
    // Equal losses are equally high in both series: from 2 to 1 is twice the way from 1 to 0.5, and five times that from 1.4 to 1.2.
    const fall = training[0]!.y - training[1]!.y
    expect(training[1]!.y - training[2]!.y).toBeCloseTo(fall / 2, 1)
    expect(heldOut![1]!.y - heldOut![2]!.y).toBeCloseTo(fall / 5, 1)
    expect(heldOut![0]!.y).toBeLessThan(training[0]!.y)
    expect(accuracies![1]!.y).toBeLessThan(accuracies![2]!.y)
    expect(accuracies![2]!.y).toBeLessThan(accuracies![0]!.y)
    expect(Math.min(...accuracies!.map(({ y }) => y))).toBeGreaterThan(Math.max(...training.map(({ y }) => y)))
  })

  it('marks the most accurate point in both panels, and says which it is', () => {
    const svg = trainingPlot(curve)
    expect(best(svg)).toEqual([dots(svg, 'held-out')[1], dots(svg, 'accuracy')[1]])
    expect(svg).toContain('class="label">best: 90.00 %<')
    expect(svg).toContain('class="label">1.4<')
    expect(svg).toContain('>Best after 2 of 3 epochs (step 20): accuracy 90.00 %, loss 1.4 on held-out rows<')
  })

  it('takes of equally accurate points that of lowest loss, and of equal ones the first', () => {
    const equal = [point(1, 1, 0.9, 0.8), point(2, 1, 0.7, 0.8), point(3, 1, 0.7, 0.8)]
    expect(trainingPlot(equal)).toContain('Best after 2 of 3 epochs')
  })

  it('has no lower panel without accuracy: the lowest held-out loss is the best', () => {
    const svg = trainingPlot([point(1, 2, 2.2), point(2, 1, 1.1), point(3, 0.5, 1.2)])
    expect(svg).not.toMatch(/>[^<{]*accuracy/)
    expect(dots(svg, 'accuracy')).toEqual([])
    expect(best(svg)).toEqual([dots(svg, 'held-out')[1]])
    expect(svg).toContain('class="label">best: 1.1<')
  })

  it('takes a logarithmic scale for losses that differ by much', () => {
    const svg = trainingPlot([point(1, 1, 1), point(2, 0.1, 1), point(3, 0.01, 1)])
    const [first, second, third] = dots(svg, 'training')
    expect(svg).toContain('loss (logarithmic)')
    expect(third!.y - second!.y).toBeCloseTo(second!.y - first!.y, 1)
    expect(trainingPlot(curve)).not.toContain('logarithmic')
  })

  it('puts losses of 0 at the lower edge of a logarithmic scale, and says so', () => {
    const svg = trainingPlot([point(1, 1, 1), point(2, 0.01, 1), point(3, 0, 1), point(4, -1e-9, 1)])
    const training = dots(svg, 'training')
    expect(training.slice(1).map(({ y }) => y)).toEqual([training[1]!.y, training[1]!.y, training[1]!.y])
    expect(svg).toContain('>2 of 8 losses below 0.01 at the lower edge<')
  })

  it('leaves out losses that are not finite or far too large, marks where, and says how many', () => {
    const broken = [...long(4), point(5, NaN, 1e25), point(6, Infinity, 0.9), point(7, 0.2, null as unknown as number), point(8, 0.2, 0.8)]
    const svg = trainingPlot(broken)
    expect(svg).toContain('>× 4 of 16 losses left out: 3 not finite, 1 beyond ±1000<')
    expect(description(svg)).toContain('× 4 of 16 losses left out: 3 not finite, 1 beyond ±1000.')
    const [training, heldOut] = (['training', 'held-out'] as const).map((kind) => crosses(svg, kind)) as [
      { x: number; y: number }[],
      { x: number; y: number }[],
    ]
    const epochs = dots(trainingPlot(long(8)), 'training').map(({ x }) => x)
    expect(training.map(({ x }) => epochs.findIndex((epoch) => Math.abs(epoch - x) <= 3))).toEqual([4, 5])
    expect(heldOut.map(({ x }) => epochs.findIndex((epoch) => Math.abs(epoch - x) <= 3))).toEqual([4, 6])
    const highest = Math.min(...dots(svg, 'training').map(({ y }) => y), ...dots(svg, 'held-out').map(({ y }) => y))
    expect(Math.max(...[...training, ...heldOut].map(({ y }) => y))).toBeLessThan(highest)
    expect(training[0]!.y).not.toBe(heldOut[0]!.y)
    // What remains is drawn as if the rest were not there, and not joined over it.
    expect(dots(svg, 'training').map(({ y }) => y)).toEqual(
      dots(trainingPlot([...long(4), point(7, 0.2, 0.9), point(8, 0.2, 0.8)]), 'training').map(({ y }) => y - 0),
    )
    expect(svg.match(/<path class="line training" d="M[^h"]*"/g)).toHaveLength(2)
    expect(best(svg)).toHaveLength(2)
  })

  it('shows how a training went before it diverged', () => {
    const svg = trainingPlot([point(1, 2, 2), point(2, 1, 1.1), point(3, 1e9, 1e12), point(4, 1e20, NaN), point(5, NaN, NaN)])
    const [first, second] = dots(svg, 'training')
    expect(second!.y - first!.y).toBeGreaterThan(100)
    expect(svg).toContain('× 6 of 10 losses left out: 3 not finite, 3 beyond')
    expect(svg).toContain('Best after 2 of 5 epochs')
  })

  it('says that there is nothing to draw', () => {
    for (const svg of [trainingPlot([]), trainingPlot([point(1, NaN, NaN)])]) expect(svg).toMatch(/>Nothing to draw<.*>no loss to draw</s)
    expect(trainingPlot([point(NaN, 1, 1)])).toContain('>1 of 1 points left out: no epoch<')
    expect(trainingPlot([point(1, 1, NaN)])).toContain('>No held-out loss to judge by<')
  })

  it('describes itself to those who do not see it', () => {
    const svg = trainingPlot(curve, { title: 'Training of digits' })
    expect(svg).toContain('role="img" aria-labelledby="title" aria-describedby="desc"><title id="title">Training of digits</title>')
    expect(description(svg)).toBe(
      'Best after 2 of 3 epochs (step 20): accuracy 90.00 %, loss 1.4 on held-out rows. ' +
        'training loss: from 2 after 1 epoch (step 10) to 0.5 after 3 epochs (step 30). ' +
        'held-out loss: from 2.2 after 1 epoch (step 10) to 1.2 after 3 epochs (step 30). ' +
        'held-out accuracy: from 50.00 % after 1 epoch (step 10) to 85.00 % after 3 epochs (step 30).',
    )
  })

  it('escapes its title, and cuts it where it is too long', async () => {
    const svg = trainingPlot(curve, { title: `</text><script>"&"${'x'.repeat(200)}` })
    await render(svg)
    expect(svg).not.toContain('<script')
    expect(svg).toMatch(/class="title">&lt;\/text&gt;&lt;script&gt;&quot;&amp;&quot;x+…</)
    expect(texts(svg).every(({ right }) => right <= 880)).toBe(true)
  })
})
