// Which nodes stay in float: those that are no faster in integers, and those that make most of the error.
import { fileURLToPath } from 'node:url'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { divideByCost, excluding, sensitiveSets, slowNodes, timesByLabel } from '#flyweight/compress/search/mixed.js'
import { parseRecipe } from '#flyweight/compress/recipe.js'
import { loadModel } from '#flyweight/onnx/load.js'
import { nodeTimes } from '#flyweight/runtime/node-times.js'

const labels = fc.uniqueArray(fc.stringMatching(/^[\w/.|%()=+ -]{1,12}$/), { minLength: 1, maxLength: 40 })

describe('excluding', () => {
  it('adds to what the last pass that can leave nodes in float excludes, and nothing else', () => {
    fc.assert(
      fc.property(labels, (names) => {
        const plain = names.filter((name) => !name.includes('|') && name.trim() === name)
        const recipe = excluding('smooth-quant+int8-static(calibration=percentile,exclude=a)', plain)
        const steps = parseRecipe(recipe).recipe ?? []
        expect(steps).toMatchObject([
          { pass: 'smooth-quant', exclude: [] },
          { pass: 'int8-static', calibration: 'percentile' },
        ])
        expect(steps[1]?.['exclude']).toEqual([...new Set(['a', ...plain])])
      }),
    )
    expect(excluding('int8-dynamic', [])).toBe('int8-dynamic')
  })
})

describe('groups of nodes', () => {
  it('hold every node once, in order, in no more groups than asked for', () => {
    fc.assert(
      fc.property(labels, fc.integer({ min: 1, max: 8 }), fc.array(fc.nat(100), { minLength: 40, maxLength: 40 }), (names, most, costs) => {
        const groups = divideByCost(names, (label) => costs[names.indexOf(label)]!, most)
        expect(groups.flat()).toEqual(names)
        expect(groups.length).toBeLessThanOrEqual(most)
        expect(groups.every((group) => group.length > 0)).toBe(true)
      }),
    )
  })
})

describe('sensitive nodes', () => {
  const errors = fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { minLength: 1, maxLength: 40 })
  const search = (of: readonly number[], patience = Infinity) => {
    const names = of.map((_, index) => `n${index}`)
    let asked = 0
    const errorOf = (only: readonly string[]) =>
      Promise.resolve(asked++ < patience ? of.reduce((sum, error, index) => sum + (only.includes(`n${index}`) ? error : 0), 0.01) : undefined)
    return sensitiveSets(names, () => 1, errorOf)
  }

  it('are found in few trials when they make nearly all of the error, and alone', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.double({ min: 0, max: 0.001, noNaN: true }), { minLength: 2, maxLength: 40 }), fc.nat(), async (small, at) => {
        const position = at % small.length
        const sets = await search(small.map((error, index) => (index === position ? 1 : error)))
        expect(sets[0]).toEqual([`n${position}`])
      }),
    )
  })

  it('come as sets that grow, a few at most and never all, whenever time ends', async () => {
    await fc.assert(
      fc.asyncProperty(errors, fc.nat(20), async (all, patience) => {
        const sets = await search(all, patience)
        expect(sets.length).toBeLessThanOrEqual(3)
        for (const [index, set] of sets.entries()) {
          expect(new Set(set).size).toBe(set.length)
          expect(set.length).toBeLessThan(all.length)
          expect(set).toEqual(expect.arrayContaining(sets[index - 1] ?? []))
          expect(set.length).toBeGreaterThan(sets[index - 1]?.length ?? 0)
        }
      }),
    )
  })

  it('are none where there is no error, or no time', async () => {
    expect(await search([0, 0, 0])).toEqual([])
    expect(await search([1, 1], 0)).toEqual([])
    expect(await search([1, 1], 2)).toEqual([])
  })
})

describe('slow nodes', () => {
  it('are those that both were timed of and that are hardly faster in integers', () => {
    const times = (of: Record<string, number>) => new Map(Object.entries(of))
    expect(slowNodes(['a', 'b', 'c', 'd'], times({ a: 100, b: 100, c: 100 }), times({ a: 95, b: 60, d: 1 }))).toEqual(['a'])
  })

  it('are told by the nodes of the model, whatever the runtime made of them', async () => {
    const file = fileURLToPath(new URL('../../fixtures/digits_cnn.onnx', import.meta.url))
    const feeds = { x: { dtype: 'float32' as const, dims: [2, 1, 28, 28], data: new Float32Array(2 * 784).fill(0.5) } }
    const { graph } = await loadModel(file)
    const times = timesByLabel(await nodeTimes(file, { feeds, runs: 2 }), graph)
    const weighted = graph.node.filter(({ opType }) => opType === 'Conv' || opType === 'Gemm').map(({ name }) => name)
    expect([...times.keys()]).toEqual(expect.arrayContaining(weighted))
    expect([...times.keys()].filter((label) => !graph.node.some(({ name }) => name === label))).toEqual([])
  })
})
