// Which candidates there are for a model: all of them recipes that exist, none twice, none that cannot work here.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { firstProposals, furtherProposals, type Subject } from '#flyweight/compress/search/candidates.js'
import type { Standing } from '#flyweight/compress/search/front.js'
import { passNamed } from '#flyweight/compress/passes/table.js'
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
    expect(none.filter(({ skip }) => skip === undefined)).toEqual([{ recipe: 'simplify' }])
    expect(none.every(({ skip }) => skip !== '')).toBe(true)
  })

  it('are not tried where they calibrate on samples that are not there, or compute in integers on a GPU', () => {
    fc.assert(
      fc.property(subjects, (subject) => {
        const tried = firstProposals(subject).flatMap(({ recipe, skip }) => (skip === undefined ? stepsOf(recipe) : []))
        if (!subject.hasSamples) expect(tried.filter(({ pass }) => passNamed(pass)?.calibrates)).toEqual([])
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
})

describe('further proposals', () => {
  it('join simplify, where it helped, with what else did', () => {
    const tried = new Map([
      ['simplify', standing(0.9)],
      ['int8-static', standing(0.5)],
      ['int8-dynamic', standing(1.1)],
      ['fp16', standing(0.9)],
      ['int8-static(calibration=percentile)', undefined],
    ])
    expect(furtherProposals(tried)).toEqual([{ recipe: 'simplify+int8-static' }])
    expect(furtherProposals(new Map([...tried, ['simplify+int8-static', undefined]]))).toEqual([])
    expect(furtherProposals(new Map([...tried, ['simplify', standing(1.01)]]))).toEqual([])
  })
})
