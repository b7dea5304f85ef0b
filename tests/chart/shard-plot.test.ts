// Pictures of shard plans: well-formed for any plan, the same for the same plan, texts apart, bars where the schedule
// has them.
import fc from 'fast-check'
import sharp from 'sharp'
import { describe, expect, it } from 'vitest'
import { shardPlot } from '#flyweight/chart/shard-plot.js'

type Plan = Parameters<typeof shardPlot>[0]

const row = (ms: readonly number[], more: Partial<Plan['stages'][number]> = {}): Plan => ({
  microBatches: 4,
  stages: ms.map((each, index) => ({
    device: `cpu:${index}`,
    weightBytes: 19_200,
    ms: each,
    reads: index === 0 ? [] : [{ from: index - 1, bytes: 25_088 }],
    ...more,
  })),
})
/** Two parts side by side, their sum, and a value that passes over them. */
const parts: Plan = {
  microBatches: 3,
  stages: [[], [0], [0], [1, 2, 0]].map((from, index) => ({
    device: `cpu:${index}`,
    weightBytes: 1e6,
    ms: 1,
    reads: from.map((stage) => ({ from: stage, bytes: 3e4 + stage })),
  })),
}

/** Boxes of all horizontal texts, by a width per character that is less than that of any common fixed-width font. */
function texts(svg: string) {
  return [...svg.matchAll(/<text x="([-\d.]+)" y="([-\d.]+)"(?: class="([\w ]+)")?>([^<]*)<\/text>/g)].map(([, x, y, style = '', escaped = '']) => {
    const content = escaped.replace(/&[#\w]+;/g, '?')
    const width = Array.from(content).length * (style.includes('title') ? 15 : 12) * 0.6
    const left = Number(x) - (style.includes('middle') ? width / 2 : 0)
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

const bars = (svg: string) =>
  [...svg.matchAll(/<rect class="(?:even|odd)( slow)?" x="([\d.]+)" y="([\d.]+)" width="([\d.]+)"/g)].map(([, slow, x, y, width]) => ({
    slow: slow !== undefined,
    x: Number(x),
    y: Number(y),
    width: Number(width),
  }))

const plans: fc.Arbitrary<Plan> = fc.integer({ min: 1, max: 9 }).chain((count) =>
  fc.record({
    microBatches: fc.integer({ min: 1, max: 20 }),
    stages: fc.tuple(
      ...Array.from({ length: count }, (_, stage) =>
        fc.record(
          {
            device: fc.oneof(fc.constantFrom('cpu:0', 'grpc://node.example:8081/a/long/path/to/it', '<&">'), fc.string({ unit: 'grapheme', maxLength: 40 })),
            weightBytes: fc.nat(2 ** 31 - 1),
            budgetBytes: fc.nat(2 ** 31 - 1),
            ms: fc.double({ min: 0, max: 1e4, noNaN: true }),
            reads: fc
              .subarray(Array.from({ length: stage }, (_unused, before) => before))
              .chain((from) => fc.tuple(...from.map((before) => fc.record({ from: fc.constant(before), bytes: fc.nat(2 ** 31 - 1) })))),
          },
          { requiredKeys: ['device', 'weightBytes', 'ms', 'reads'] },
        ),
      ),
    ),
  }),
)

describe('shardPlot', () => {
  it('draws whatever plan there is, the same for the same one', async () => {
    await fc.assert(
      fc.asyncProperty(plans, async (plan) => {
        const svg = shardPlot(plan)
        expect(svg).not.toMatch(/NaN|Infinity|undefined|<script/)
        expect(shardPlot(plan)).toBe(svg)
        // The renderer parses XML strictly, and refuses what is not well-formed.
        await sharp(Buffer.from(svg)).metadata()
      }),
      { seed: 30, numRuns: 60 },
    )
  })

  it.each([1, 2, 3, 4, 8])('keeps the texts of %i stages apart and on the paper', (count) => {
    const ms = Array.from({ length: count }, (_, index) => 1 + (index % 3))
    for (const more of [{}, { budgetBytes: 64_000 }, { device: 'grpc://flyweight-node.example.internal:8081' }]) {
      const svg = shardPlot(row(ms, more))
      expect(overlaps(svg)).toEqual([])
      const width = Number(/viewBox="0 0 ([\d.]+)/.exec(svg)?.[1])
      for (const { left, right } of texts(svg)) expect(left >= 0 && right <= width).toBe(true)
    }
    expect(overlaps(shardPlot(parts))).toEqual([])
  })

  it('has a bar for each micro-batch in each stage, where the schedule has it', () => {
    const drawn = bars(shardPlot(row([1, 2, 1])))
    expect(drawn).toHaveLength(12)
    const second = drawn.filter(({ slow }) => slow)
    expect(second).toHaveLength(4)
    // Pixels for a millisecond: the first stage's bars are one apart.
    const ms = drawn[1]!.x - drawn[0]!.x
    expect(second[0]!.x - drawn[0]!.x).toBeCloseTo(ms, 1)
    for (let index = 1; index < 4; index++) expect(second[index]!.x - second[index - 1]!.x).toBeCloseTo(2 * ms, 1)
    expect(drawn.at(-1)!.x - drawn[0]!.x).toBeCloseTo((1 + 2 * 4) * ms, 1)
  })

  it('sets parts side by side, with arcs for what passes over them', () => {
    const svg = shardPlot(parts)
    const boxes = [...svg.matchAll(/<rect class="box[ a-z]*" x="([\d.]+)" y="([\d.]+)"/g)].map(([, x, y]) => [Number(x), Number(y)] as const)
    expect(boxes[1]![0]).toBe(boxes[2]![0])
    expect(boxes[2]![1]).toBeGreaterThan(boxes[1]![1])
    expect(boxes[3]![0]).toBeGreaterThan(boxes[2]![0])
    expect(svg.match(/<path class="edge" d="M[^"]*Q/g)).toHaveLength(1)
  })

  it('tells what it shows to those who do not see it', () => {
    const svg = shardPlot(row([1, 2, 1], { budgetBytes: 1000 }), { title: 'digits <1>' })
    expect(svg).toContain('<title id="title">digits &lt;1&gt;</title>')
    expect(svg).toContain('3 stages, 4 micro-batches in 10 ms, devices wait 47 % of the time; busiest: cpu:1.')
    expect(svg).toContain('Stage 1 on cpu:1: 19.2 kB of weights of at most 1.0 kB, 2 ms, reads 25.1 kB of stage 0.')
    expect(svg.match(/class="over"/g)).toHaveLength(3)
    expect(shardPlot(row([0, 0]))).toContain('no times to draw')
  })
})
