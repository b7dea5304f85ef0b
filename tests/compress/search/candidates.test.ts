// Which candidates there are for a model: all of them recipes that exist, none twice, none that cannot work here.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { comesBeforeMixing, firstProposals, furtherProposals, type Subject, type Tried } from '#flyweight/compress/search/candidates.js'
import type { Standing } from '#flyweight/compress/search/front.js'
import { parseRecipe, recipeName } from '#flyweight/compress/recipe.js'

const subjects = fc.record<Subject>({
  device: fc.constantFrom('cpu', 'cuda:0', 'webgpu:0'),
  hasSamples: fc.boolean(),
  weights: fc.record({ convolution: fc.nat(3), depthwise: fc.nat(3), product: fc.nat(3), embedding: fc.nat(3), recurrent: fc.nat(3) }),
})
const stepsOf = (recipe: string) => parseRecipe(recipe).recipe ?? []
const standing = (ratio: number): Standing => ({ bytes: 100, fidelity: 1, ratios: [{ batch: 1, ratio }] })

describe('first proposals', () => {
  it('are recipes as the command line writes them, each once', () => {
    fc.assert(
      fc.property(subjects, (subject) => {
        const recipes = firstProposals(subject).map(({ recipe }) => recipe)
        expect(recipes.map((recipe) => recipeName(stepsOf(recipe)))).toEqual(recipes)
        expect(new Set(recipes).size).toBe(recipes.length)
      }),
    )
  })

  it('are the same whatever the model, so that the report says of each why it was left out', () => {
    const all = firstProposals({ device: 'cpu', hasSamples: true, weights: { convolution: 1, depthwise: 1, product: 1, embedding: 1, recurrent: 1 } })
    expect(all.filter(({ skip }) => skip !== undefined)).toEqual([])
    const none = firstProposals({ device: 'cpu', hasSamples: false, weights: { convolution: 0, depthwise: 0, product: 0, embedding: 0, recurrent: 0 } })
    expect(none.filter(({ skip }) => skip === undefined)).toEqual([{ recipe: 'simplify' }, { recipe: 'fp16(search=false)' }])
    expect(none.every(({ skip }) => skip !== '')).toBe(true)
  })

  it('are not tried where they calibrate on samples that are not there, or compute in integers on a GPU', () => {
    fc.assert(
      fc.property(subjects, (subject) => {
        const tried = firstProposals(subject).flatMap(({ recipe, skip }) => (skip === undefined ? stepsOf(recipe) : []))
        if (!subject.hasSamples) expect(tried.filter(({ pass, search }) => /^(int8-static|smooth-quant|fp16)$/.test(pass) && search !== false)).toEqual([])
        if (subject.device !== 'cpu') expect(tried.filter(({ pass }) => pass.startsWith('int8'))).toEqual([])
      }),
    )
  })

  it('begin with what suits the weights', () => {
    const quantized = (weights: Partial<Subject['weights']>) =>
      firstProposals({ device: 'cpu', hasSamples: true, weights: { convolution: 0, depthwise: 0, product: 0, embedding: 0, recurrent: 0, ...weights } })
        .map(({ recipe }) => recipe)
        .find((recipe) => recipe.startsWith('int8'))
    expect(quantized({ convolution: 10, product: 5 })).toBe('int8-static')
    expect(quantized({ convolution: 5, product: 10 })).toBe('int8-dynamic')
  })

  it('begin with the likeliest way to quantize, and do what is quick before precisions are mixed', () => {
    const weights = { convolution: 10, depthwise: 1, product: 5, embedding: 0, recurrent: 0 }
    const recipes = firstProposals({ device: 'cpu', hasSamples: true, weights }).map(({ recipe }) => recipe)
    expect(recipes.slice(0, 3)).toEqual(['int8-static', 'simplify', 'int8-dynamic'])
    expect(recipes.filter(comesBeforeMixing)).toEqual(recipes.slice(0, 3))
  })
})

describe('further proposals', () => {
  const good = (recipe: string, ratio: number, fidelity = 1): Tried => ({ recipe, fidelity, contender: standing(ratio) })
  const next = (tried: readonly Tried[]) => furtherProposals(tried).map(({ recipe }) => recipe)

  it('join what made the model faster before it was quantized with what did by quantizing', () => {
    const tried = [good('simplify', 0.9), good('int8-static', 0.5), good('int8-dynamic', 1.1), good('fp16', 0.9), { recipe: 'int8-static(calibration=mse)' }]
    expect(next(tried)).toEqual(['simplify+int8-static'])
    expect(next([...tried, { recipe: 'simplify+int8-static' }])).toEqual([])
    expect(next(tried.filter(({ recipe }) => recipe !== 'simplify'))).toEqual([])
    const fewer = good('prune-channels(ratio=0.1)+recover', 0.9)
    expect(next([...tried, fewer])).toEqual(['prune-channels(ratio=0.2)+recover'])
    expect(next([...tried, fewer, { recipe: 'prune-channels(ratio=0.2)+recover' }])).toEqual([
      'prune-channels(ratio=0.1)+recover+simplify',
      'prune-channels(ratio=0.1)+recover+simplify+int8-static',
    ])
    expect(next([...tried, { ...fewer, fidelity: 0.9 }])).toEqual(['simplify+int8-static'])
  })

  it('take more channels out while the outputs stay close, fewer where they do not, and stop between', () => {
    const at = (ratio: number, fidelity: number) => ({ recipe: `prune-channels(ratio=${ratio})+recover`, fidelity })
    expect(next([at(0.3, 1)])).toEqual(['prune-channels(ratio=0.45)+recover'])
    expect(next([at(0.3, 1), at(0.45, 0.9)])).toEqual([])
    expect(next([at(0.3, 0.8)])).toEqual(['prune-channels(ratio=0.2)+recover'])
    expect(next([at(0.3, 0.8), at(0.2, 0.99), at(0.1, 0.99)])).toEqual([])
    expect(next([at(0.3, 0.8), at(0.2, 1)])).toEqual([])
    expect(next([{ recipe: 'prune-channels(ratio=0.3)+recover' }])).toEqual([])
  })

  it('end, whatever the trials give', () => {
    fc.assert(
      fc.property(
        fc.infiniteStream(fc.record({ fidelity: fc.double({ min: 0.9, max: 1, noNaN: true }), ratio: fc.double({ min: 0.5, max: 1.5, noNaN: true }) })),
        (results) => {
          const tried: Tried[] = []
          const waiting = firstProposals({ device: 'cpu', hasSamples: true, weights: { convolution: 1, depthwise: 1, product: 1, embedding: 1, recurrent: 1 } })
          while (waiting.length > 0) {
            const { recipe } = waiting.shift()!
            const { fidelity, ratio } = results.next().value as { fidelity: number; ratio: number }
            expect(recipeName(stepsOf(recipe))).toBe(recipe)
            tried.push(good(recipe, ratio, fidelity))
            expect(tried.length).toBeLessThan(40)
            if (waiting.length === 0) waiting.push(...furtherProposals(tried))
          }
          expect(new Set(tried.map(({ recipe }) => recipe)).size).toBe(tried.length)
        },
      ),
      { numRuns: 30 },
    )
  })
})
