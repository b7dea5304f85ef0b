// Recipes as users write them: what is accepted, what it is completed to, and what is said about mistakes.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { canonicalRecipe, parseRecipe, recipeHash, recipeName, variantName } from '#flyweight/compress/recipe.js'
import { FlyweightError } from '#flyweight/errors.js'
import type { Recipe } from '#flyweight/measurements.js'

const staticDefaults = {
  pass: 'int8-static',
  dialect: 'cpu',
  calibration: 'percentile',
  percentile: 99.99,
  depthwise: true,
  reduceRange: 'auto',
  biasCorrection: true,
  exclude: [],
}
const recipeOf = (input: unknown): Recipe => parseRecipe(input).recipe!

function faultOf(input: unknown): { pointer: string; detail: string } {
  try {
    parseRecipe(input)
  } catch (error) {
    if (!(error instanceof FlyweightError)) throw error
    expect(error.code).toBe('invalid_recipe')
    const fault = error.errors[0]!
    expect(error.message).toContain(fault.detail)
    return fault
  }
  throw new Error(`${JSON.stringify(input)} was accepted`)
}

const names = fc.array(fc.oneof(fc.string({ minLength: 1 }), fc.stringMatching(/^[a-z%+()=,|/ ]{1,12}$/)), { maxLength: 3 })
const steps = fc.oneof(
  fc.record(
    { pass: fc.constant('int8-static'), calibration: fc.constantFrom('min-max', 'mse'), depthwise: fc.boolean(), exclude: names },
    { requiredKeys: ['pass'] },
  ),
  fc.record({ pass: fc.constant('int8-dynamic'), minWeights: fc.nat(), exclude: names }, { requiredKeys: ['pass'] }),
  fc.record({ pass: fc.constant('fp16'), exclude: names }, { requiredKeys: ['pass'] }),
)
// What quantizes after fp16 is refused.
const recipes = fc.array(steps, { minLength: 1, maxLength: 3 }).map((list) => list.toSorted((a, b) => Number(a.pass === 'fp16') - Number(b.pass === 'fp16')))

describe('reading', () => {
  it('knows the preset, with white space around it', () => {
    expect(parseRecipe('int8')).toEqual({ preset: 'int8' })
    expect(parseRecipe(' int8 ')).toEqual({ preset: 'int8' })
  })

  it('completes short strings and JSON with the same defaults', () => {
    expect(recipeOf('int8-static')).toEqual([staticDefaults])
    expect(recipeOf([{ pass: 'int8-static' }])).toEqual([staticDefaults])
  })

  it('reads parameters of short strings by their types', () => {
    expect(recipeOf('int8-static( depthwise = false , exclude=a|b/c ) + fp16')).toEqual([
      { ...staticDefaults, depthwise: false, exclude: ['a', 'b/c'] },
      { pass: 'fp16', exclude: [], io: 'float32', search: true, tolerance: 0.02 },
    ])
    expect(recipeOf('int8-dynamic(minWeights=0)')).toMatchObject([{ pass: 'int8-dynamic', minWeights: 0, exclude: [] }])
    expect(recipeOf('fp16()')).toMatchObject([{ pass: 'fp16', exclude: [] }])
  })

  it('reads %xx in values', () => {
    expect(recipeOf('fp16(exclude=a%2Bb%28%C3%A9%29|100%)')).toMatchObject([{ pass: 'fp16', exclude: ['a+b(é)', '100%'] }])
  })

  it('leaves what it was given as it was', () => {
    const given = [{ pass: 'int8-static' }]
    parseRecipe(given)
    expect(given).toEqual([{ pass: 'int8-static' }])
  })
})

describe('canonical form', () => {
  it('is independent of the order of keys and of whether defaults are spelled out', () => {
    fc.assert(
      fc.property(recipes, (recipe) => {
        const complete = recipeOf(recipe)
        const reversed = complete.map((step) => Object.fromEntries(Object.entries(step).reverse()))
        expect(recipeHash(recipeOf(reversed))).toBe(recipeHash(complete))
        expect(JSON.parse(canonicalRecipe(complete))).toEqual(complete)
      }),
    )
  })

  it('tells recipes apart', () => {
    const hashes = ['int8-static', 'int8-dynamic', 'fp16', 'int8-static(depthwise=false)', 'int8-static+fp16', 'fp16+prune-weights'].map((text) =>
      recipeHash(recipeOf(text)),
    )
    expect(new Set(hashes).size).toBe(hashes.length)
    expect(hashes.every((hash) => /^[0-9a-f]{64}$/.test(hash))).toBe(true)
  })
})

describe('names', () => {
  it('hold what differs from the defaults', () => {
    expect(recipeName(recipeOf('int8-static(calibration=percentile)+fp16'))).toBe('int8-static+fp16')
    expect(recipeName(recipeOf('int8-dynamic(exclude=a|b,minWeights=64)'))).toMatch(/^int8-dynamic\((minWeights=64,exclude=a\|b|exclude=a\|b,minWeights=64)\)$/)
  })

  it('are recipes themselves, whatever the nodes are called', () => {
    fc.assert(
      fc.property(recipes, (recipe) => {
        const complete = recipeOf(recipe)
        expect(recipeOf(recipeName(complete))).toEqual(complete)
      }),
    )
  })
})

describe('names of variants', () => {
  it('are the recipe where that is short, else its passes and the beginning of its hash', () => {
    expect(variantName(recipeOf('simplify+int8-static(depthwise=false)'))).toBe('simplify+int8-static(depthwise=false)')
    const long = recipeOf(`simplify+int8-static(exclude=${Array.from({ length: 20 }, (_, index) => `node${index}`).join('|')})`)
    expect(variantName(long)).toBe(`simplify+int8-static~${recipeHash(long).slice(0, 8)}`)
  })
})

describe('mistakes', () => {
  it.each([
    ['', '/recipe/0', 'expected pass or pass(parameter=value,…)'],
    [[], '/recipe', 'expected a preset (int8)'],
    [{ pass: 'fp16' }, '/recipe', 'expected a preset (int8)'],
    [undefined, '/recipe', 'got nothing'],
    ['int3', '/recipe/0/pass', 'got "int3", expected one of int8-static, int8-dynamic'],
    ['fp16+int8', '/recipe/1/pass', 'a preset stands alone'],
    ['simplify+fp16+int4', '/recipe/2/pass', 'got int4 after fp16 (step 1), which leaves it no float32 weights; expected fp16 after int4'],
    ['fp16(', '/recipe/0', 'got "fp16("'],
    ['fp16(exclude)', '/recipe/0/exclude', 'expected parameter=value'],
    ['fp16(exclude=a=b)', '/recipe/0/exclude', 'expected parameter=value'],
    ['fp16(exclude=a,exclude=b)', '/recipe/0/exclude', 'twice'],
    ['fp16(fast=true)', '/recipe/0/fast', 'no such parameter; expected exclude'],
    ['fp16(toString=1)', '/recipe/0/toString', 'no such parameter'],
    ['fp16(__proto__=1)', '/recipe/0/__proto__', 'no such parameter'],
    ['int8-static+int8-dynamic(minWeights=few)', '/recipe/1/minWeights', 'got "few"'],
    ['int8-dynamic(minWeights=-1)', '/recipe/0/minWeights', 'got -1'],
    ['int8-static(depthwise=yes)', '/recipe/0/depthwise', 'got "yes"'],
    ['int8-static(calibration=guess)', '/recipe/0/calibration', 'got "guess"'],
    [['int8-static'], '/recipe/0', 'got "int8-static", expected a step'],
    [[{ pass: 'fp16', exclude: [''] }], '/recipe/0/exclude/0', 'got ""'],
    [[{ pass: 'fp16', exclude: null }], '/recipe/0/exclude', 'got null'],
    [[{ pass: 'fp16' }, null], '/recipe/1', 'got null'],
  ])('%j: names %s', (input, pointer, detail) => {
    const fault = faultOf(input)
    expect(fault.pointer).toBe(pointer)
    expect(fault.detail).toContain(detail)
  })

  it('are the only thing thrown, for any text', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.stringMatching(/^(int8|fp16)[-a-z()=+|%,]{0,20}$/)), (text) => {
        try {
          parseRecipe(text)
        } catch (error) {
          expect(error).toBeInstanceOf(FlyweightError)
        }
      }),
    )
  })
})
