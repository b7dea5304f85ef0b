// Whole searches on a small network: what the report says of every candidate, what is kept, and what a cancelled or
// hurried search leaves. How fast anything is depends on the machine, so only what follows from the figures is asserted.
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createHash } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { firstProposals } from '#flyweight/compress/search/candidates.js'
import { divide, mayServe, type Standing } from '#flyweight/compress/search/front.js'
import type { Model } from '#flyweight/compress/passes/pass.js'
import { searchVariants, type SearchContext, type SearchOptions, type SearchResult } from '#flyweight/compress/search/search.js'
import { recipeName } from '#flyweight/compress/recipe.js'
import type { KeptVariant } from '#flyweight/compress/search/story.js'
import type { SearchReport } from '#flyweight/measurements.js'
import { node } from '#flyweight/onnx/builder.js'
import { saveModel } from '#flyweight/onnx/load.js'
import { tileRows } from '#flyweight/runtime/sample-inputs.js'
import { network, noiseSamples, weights, withFolder } from '../compressing.js'

const WIDTH = 96
const samples = noiseSamples([WIDTH], 32)
const OUTPUTS = 16

/** Two products. With an outlier, the second reads one channel that is large and that it gives no weight: int8 loses all others. */
function tiny({ outlier }: { outlier: boolean }): Model {
  const [a, b] = [weights('a', [WIDTH, WIDTH]), weights('b', [WIDTH, OUTPUTS], { seed: 2 })]
  if (outlier) {
    const [first, second] = [a, b].map(({ rawData }) => new Float32Array(rawData.buffer, rawData.byteOffset, rawData.byteLength / 4))
    for (let row = 0; row < WIDTH; row++) first![row * WIDTH] = 10_000
    second!.fill(0, 0, OUTPUTS)
  }
  return network(
    [WIDTH],
    ['n', OUTPUTS],
    [
      node('MatMul', ['x', 'a'], ['hidden'], { name: 'first' }),
      node('Relu', ['hidden'], ['positive'], { name: 'relu' }),
      node('Gemm', ['positive', 'b', 'bias'], ['y'], { name: 'second' }),
    ],
    [a, b, weights('bias', [OUTPUTS], { seed: 3 })],
  )
}

function search(
  { outlier = false, ...options }: Partial<SearchOptions> & { outlier?: boolean },
  look: (result: SearchResult) => Promise<void> | void,
  context: Partial<SearchContext> = {},
): Promise<void> {
  return withFolder(async (workDir) => {
    const file = join(workDir, 'source.onnx')
    await saveModel(tiny({ outlier }), file)
    const source = { file, digest: 'source', samples, synthetic: false, maxBatch: 32, feedsAt: (batch: number) => tileRows(samples.take(0, 1), batch) }
    await look(
      await searchVariants(
        source,
        { budgetSeconds: 600, profileBudgetMs: 20, batches: [1, 4], minFidelity: 0.5, device: 'cpu', threads: 1, ...options },
        { workDir, ...context },
      ),
    )
  })
}

const frontOf = ({ candidates }: SearchReport) => candidates.filter(({ fate }) => fate === 'front')
const proposed = firstProposals({ device: 'cpu', hasSamples: true, weights: { convolution: 0, depthwise: 0, product: 1, embedding: 0, recurrent: 0 } })

describe('a search', () => {
  const told: KeptVariant[] = []
  const reports: SearchReport[] = []
  const steps: number[] = []
  let result!: SearchResult
  let digests: string[] = []
  it('ends when everything was tried', async () => {
    await search(
      {},
      async (found) => {
        result = found
        digests = await Promise.all(
          found.kept.map(async ({ file }) =>
            createHash('sha256')
              .update(await readFile(file))
              .digest('hex'),
          ),
        )
      },
      {
        keep: (variant) => {
          told.push(variant)
          return Promise.resolve(`stored-${recipeName(variant.recipe)}`)
        },
        onReport: (report) => reports.push(report),
        onProgress: (fraction) => steps.push(fraction),
      },
    )
    expect(result.report.budgetSeconds).toBe(600)
    expect(steps.every((fraction) => fraction >= 0 && fraction <= 1)).toBe(true)
    expect(steps).toEqual(steps.toSorted((a, b) => a - b))
  }, 60_000)

  it('says of every candidate what became of it and why', () => {
    const { candidates } = result.report
    const recipes = candidates.map(({ recipe }) => recipe)
    expect(recipes[0]).toBe('fp32')
    expect(recipes).toEqual(expect.arrayContaining(proposed.map(({ recipe }) => recipe)))
    expect(new Set(recipes).size).toBe(recipes.length)
    for (const { fate, reason, seconds, bytes, fidelity, ratios } of candidates) {
      expect(reason).toMatch(/\S/)
      expect(seconds).toBeGreaterThanOrEqual(0)
      if ((fate !== 'front' && fate !== 'dominated') || reason.includes('same file')) continue
      expect([bytes, fidelity]).toEqual([expect.any(Number), expect.any(Number)])
      expect(ratios?.map(({ batch }) => batch)).toEqual([1, 4])
    }
    expect(candidates.filter(({ fate }) => fate === 'failed')).toEqual([])
    expect(reports.map((report) => report.candidates.length)).toEqual(Array.from({ length: candidates.length - 1 }, (_, index) => index + 2))
  })

  it('keeps a front in which none beats another', () => {
    const front = frontOf(result.report)
    expect(result.kept.map(({ recipe }) => recipeName(recipe))).toEqual(front.flatMap(({ recipe }) => (recipe === 'fp32' ? [] : [recipe])))
    const standings = front.map(({ recipe, bytes, fidelity, ratios }): Standing => {
      const onlySmall = result.kept.find((variant) => recipeName(variant.recipe) === recipe)?.sizeOnly === true
      return { bytes: bytes!, fidelity: fidelity!, ratios: onlySmall ? ratios!.map((measured) => ({ ...measured, ratio: 2 })) : ratios! }
    })
    expect(divide(standings).front).toEqual(standings)
    expect(result.kept.length).toBeGreaterThan(0)
  })

  it('offers nothing that is slower than the source model by the figures of its report', () => {
    for (const { recipe: steps, sizeOnly, latencies, report } of result.kept) {
      const { ratios, fidelity } = result.report.candidates.find(({ recipe }) => recipe === recipeName(steps))!
      expect(report.gate).toMatchObject({ admitted: true, finite: true })
      expect(report.gate.latencies.map(({ batch, ratio }) => ({ batch, ratio }))).toEqual(ratios)
      expect(latencies.map(({ batch }) => batch)).toEqual([1, 4])
      expect(fidelity).toBeGreaterThanOrEqual(0.5)
      if (!sizeOnly) expect(ratios!.every(({ ratio }) => ratio <= 1)).toBe(true)
      else expect(report.variantBytes).toBeLessThan(report.sourceBytes)
      if (!mayServe({ ratios: ratios! })) expect(sizeOnly).toBe(true)
    }
  })

  it('hands over each variant once, as soon as nothing beats it, and reports where it was stored', () => {
    const names = told.map(({ name }) => name)
    expect(new Set(names).size).toBe(names.length)
    expect(names).toEqual(expect.arrayContaining(result.kept.map(({ name }) => name)))
    for (const { recipe, fate, variant } of result.report.candidates)
      expect(variant).toBe(fate === 'front' && recipe !== 'fp32' ? `stored-${recipe}` : undefined)
    expect(digests).toEqual(result.kept.map(({ digest }) => digest))
  })
})

describe('a search that meets a sensitive node', () => {
  it('tries to leave it in float, and finds the outputs closer', async () => {
    await search({ outlier: true, minFidelity: 0 }, ({ report }) => {
      const tried = (recipe: string) => report.candidates.find((candidate) => candidate.recipe === recipe)
      const [whole, mixed] = [tried('int8-dynamic'), tried('int8-dynamic(exclude=second)')]
      expect(whole?.fidelity).toBeLessThan(0.9)
      expect(mixed?.fidelity).toBeGreaterThan(0.95)
    })
  }, 60_000)
})

describe('a search that ends early', () => {
  it('keeps what it had when it is cancelled', async () => {
    const cancel = new AbortController()
    await search(
      {},
      ({ report, kept }) => {
        expect(kept.length).toBeGreaterThan(0)
        expect(report.candidates.at(-1)).toMatchObject({ fate: 'skipped', reason: expect.stringContaining('the search was cancelled') })
        expect(report.candidates.map(({ recipe }) => recipe)).toEqual(['fp32', ...proposed.map(({ recipe }) => recipe)])
        for (const { digest } of kept) expect(report.candidates.find(({ variant }) => variant === digest)).toMatchObject({ fate: 'front' })
      },
      {
        signal: cancel.signal,
        keep: ({ digest }) => {
          cancel.abort()
          return Promise.resolve(digest)
        },
      },
    )
  }, 60_000)

  it('tries nothing when it is cancelled from the start', async () => {
    await search(
      {},
      ({ report, kept }) => {
        expect(kept).toEqual([])
        expect(frontOf(report).map(({ recipe }) => recipe)).toEqual(['fp32'])
        expect(report.candidates.slice(1).map(({ fate }) => fate)).toEqual(proposed.map(() => 'skipped'))
      },
      { signal: AbortSignal.abort() },
    )
  })

  it('says which candidates its budget did not reach', async () => {
    await search({ budgetSeconds: 0.001 }, ({ report, kept }) => {
      expect(kept).toEqual([])
      for (const { fate, reason } of report.candidates.slice(1)) expect([fate, reason]).toEqual(['skipped', expect.stringMatching(/budget ended|no /)])
    })
  })

  it('tells which candidates fail the tolerance', async () => {
    await search({ minFidelity: 1.01 }, ({ report, kept }) => {
      expect(kept).toEqual([])
      expect(report.candidates.slice(1).every(({ fate, reason }) => fate === 'rejected' && /fidelity|nothing to change/.test(reason))).toBe(true)
    })
  }, 60_000)
})
