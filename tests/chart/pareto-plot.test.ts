import { paretoPlot } from '#flyweight/chart/pareto-plot.js'
import type { SearchCandidate, SearchReport } from '#flyweight/measurements.js'
import fc from 'fast-check'
import sharp from 'sharp'
import { describe, expect, it } from 'vitest'

const at = (...ratios: number[]) => ratios.map((ratio, index) => ({ batch: [1, 8, 32][index]!, ratio }))
const fp32: SearchCandidate = { recipe: 'fp32', fate: 'front', reason: 'the source', seconds: 0, bytes: 400_000, fidelity: 1, ratios: at(1, 1, 1) }
const int8: SearchCandidate = { recipe: 'int8-static', fate: 'front', reason: 'faster', seconds: 3, bytes: 100_000, fidelity: 0.99, ratios: at(0.5, 0.6, 0.55) }
const search = (...candidates: SearchCandidate[]): SearchReport => ({ budgetSeconds: 60, elapsedSeconds: 41.6, candidates: [fp32, ...candidates] })

/** The bubbles of measured candidates: class, place, radius. */
function marks(svg: string) {
  return [...svg.matchAll(/<circle class="mark (\w+)" cx="([-\d.]+)" cy="([-\d.]+)" r="([\d.]+)">/g)].map(([, role, x, y, radius]) => ({
    role,
    x: Number(x),
    y: Number(y),
    radius: Number(radius),
  }))
}

/** The renderer parses XML strictly, and refuses what is not well-formed. */
const render = (svg: string) => sharp(Buffer.from(svg)).raw().toBuffer()

/** Markup, quotes, controls, astral and wide characters, lone surrogates. */
const character = fc.constantFrom('a', '+', '<', '&', '"', "'", ' ', '\u0000', '\u001B', '\uFFFF', '\uD800', '量', '😀')
const candidates = fc.array(
  fc.record(
    {
      recipe: fc.string({ unit: character, maxLength: 80 }),
      fate: fc.constantFrom('front', 'dominated', 'rejected', 'failed', 'skipped'),
      reason: fc.string({ unit: character }),
      seconds: fc.double({ min: 0, max: 100, noNaN: true }),
      bytes: fc.integer({ min: 1, max: 2 ** 40 }),
      fidelity: fc.double({ min: 0, max: 1, noNaN: true }),
      accuracy: fc.double({ min: 0, max: 1, noNaN: true }),
      ratios: fc.tuple(...[1, 8].map((batch) => fc.record({ batch: fc.constant(batch), ratio: fc.double({ min: 0.001, max: 1000, noNaN: true }) }))),
    },
    { requiredKeys: ['recipe', 'fate', 'reason', 'seconds'] },
  ),
  { maxLength: 25 },
)

describe('paretoPlot', () => {
  it('is well-formed, without NaN, and has one mark a measured candidate, all within the picture', async () => {
    await fc.assert(
      fc.asyncProperty(candidates, async (found) => {
        const svg = paretoPlot({ budgetSeconds: 60, elapsedSeconds: 1, candidates: found })
        await render(svg)
        expect(svg).not.toMatch(/NaN|Infinity/)
        const measured = found.filter(
          ({ fate, bytes, fidelity, ratios }) => fate !== 'failed' && fate !== 'skipped' && bytes && fidelity !== undefined && ratios,
        )
        const drawn = marks(svg)
        expect(drawn).toHaveLength(measured.length)
        const outside = drawn.filter(({ x, y, radius }) => x - radius < 0 || x + radius > 880 || y - radius < 90 || y + radius > 510)
        expect(outside).toEqual([])
      }),
      { numRuns: 40 },
    )
  }, 30_000)

  it('escapes names: markup in a recipe stays text', async () => {
    const svg = paretoPlot(search({ ...int8, recipe: '</text><script>alert("&")</script>' }))
    expect(svg).not.toContain('<script')
    expect(svg).toContain('&lt;/text&gt;&lt;script&gt;alert(&quot;&amp;&quot;)&lt;/script&gt;')
    await render(svg)
    await expect(render('<svg xmlns="http://www.w3.org/2000/svg"><text>a & b</text></svg>')).rejects.toThrow(/./)
  })

  it('puts the faster to the left, the more faithful higher, and makes areas of bytes', () => {
    const [front, reference] = ['front', 'reference'].map((role) => marks(paretoPlot(search(int8))).find((mark) => mark.role === role)!)
    expect(front!.x).toBeLessThan(reference!.x)
    expect(front!.y).toBeGreaterThan(reference!.y)
    expect(reference!.radius ** 2 / front!.radius ** 2).toBeCloseTo(4)
  })

  it('takes accuracy where all that were measured have it', () => {
    const accurate = {
      budgetSeconds: 60,
      elapsedSeconds: 9,
      candidates: [
        { ...fp32, accuracy: 0.98 },
        { ...int8, accuracy: 0.97 },
      ],
    }
    expect(paretoPlot(accurate)).toContain('accuracy, share of labels')
    expect(paretoPlot(search({ ...int8, accuracy: 0.97 }))).toContain('fidelity to fp32')
  })

  it('numbers the front, joins it with fp32, and has its names in full in the key', () => {
    const long = 'prune-channels(ratio=0.5,importance=l2)+recover+int8-static(calibration=percentile)'
    const svg = paretoPlot(search({ ...int8, recipe: long, ratios: at(0.3, 0.3, 0.3), fidelity: 0.97 }, int8))
    expect(svg).toContain('>1 prune-channels(ratio=0.5,…<')
    expect(svg).toContain('>2 int8-static<')
    expect(svg.match(/<line class="line"/g)).toHaveLength(2)
    expect(svg).toMatch(/>prune-channels\(ratio=0.5,importance=l2\)\+recover\+<.*>int8-static\(calibration=percentile\)</)
  })

  it('keeps the front readable: what is far worse stands at the edge, and is counted', () => {
    const svg = paretoPlot(search(int8, { ...int8, fate: 'rejected', fidelity: 0.1 }, { ...int8, fate: 'rejected', ratios: at(12, 12, 12) }))
    expect(svg).toContain('1 of lower fidelity than the plot shows; ▸ 1 slower')
    const [front, reference] = ['front', 'reference'].map((role) => marks(svg).find((mark) => mark.role === role)!)
    expect(front!.y - reference!.y).toBeGreaterThan(100)
    expect(reference!.x - front!.x).toBeGreaterThan(300)
  })

  it('marks members of the front that answer only when pinned', () => {
    expect(paretoPlot(search(int8))).not.toContain('when pinned')
    const svg = paretoPlot(search({ ...int8, pinnedOnly: true }))
    expect(svg).toContain('>int8-static *<')
    expect(svg).toContain('* for its bytes: answers only when pinned')
  })

  it('says how many candidates it does not show', () => {
    expect(paretoPlot(search({ recipe: 'int4', fate: 'failed', reason: 'no', seconds: 1 }))).toContain('1 failed, skipped or not measured: not drawn')
  })
})
