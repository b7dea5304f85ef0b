// Every pass makes the same bytes of the same model, parameters and samples, whatever ran before it in the process:
// artifacts are known by their digests.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { passes } from '#flyweight/compress/passes/table.js'
import { parseRecipe } from '#flyweight/compress/recipe.js'
import { encodeModel } from '#flyweight/onnx/proto.js'
import { compressed } from '../compressing.js'
import { randomGraph } from '../random-graphs.js'

/** Parameters with which a pass changes small models too. */
const parameters: Readonly<Record<string, string>> = { 'prune-weights': '(minWeights=0)', 'prune-channels': '(roundTo=1)' }

describe.each(passes.map(({ name }) => name))('%s', (name) => {
  it('gives the same bytes each time', { timeout: 60_000 }, async () => {
    const recipe = [...parseRecipe(`${name}${parameters[name] ?? ''}`).recipe!]
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 2 ** 31 - 1 }), async (seed) => {
        const bytes = async () => {
          const { model, samples } = randomGraph(seed)
          return Buffer.from(encodeModel((await compressed(model, recipe, samples)).model))
        }
        expect((await bytes()).equals(await bytes())).toBe(true)
      }),
      { numRuns: 6, seed: 7 },
    )
  })
})
