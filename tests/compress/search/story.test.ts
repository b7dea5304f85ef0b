import { reportOf } from '#flyweight/compress/search/story.js'
import { describe, expect, it } from 'vitest'

const at = (...ratios: number[]) => ratios.map((ratio, index) => ({ batch: [1, 8][index]!, ratio }))

type Trial = Parameters<typeof reportOf>[0]['trials'][number]

/** A candidate in the running; of what was built only what reports read. */
function trial(recipe: string, bytes: number, ratios: ReturnType<typeof at>): Trial {
  const fidelity = { score: 0.99, accuracy: { source: 0.98, variant: 0.97 } }
  const contender = { recipe, bytes, fidelity: 0.99, ratios, digest: recipe, built: { report: { fidelity } } }
  return { recipe, seconds: 1, bytes, fidelity: 0.99, accuracy: 0.97, ratios, contender } as unknown as Trial
}

describe('reportOf', () => {
  const reference = { bytes: 1000, fidelity: 1, ratios: at(1, 1) }
  const trials = [trial('fast', 800, at(0.5, 0.5)), trial('small', 100, at(0.9, 1.2))]
  const { candidates } = reportOf({ budgetSeconds: 60, elapsedSeconds: 9, reference, trials, digests: new Map([['fast', 'd1']]) })

  it('gives the source the accuracy that the variants were compared with', () => {
    expect(candidates[0]).toMatchObject({ recipe: 'fp32', accuracy: 0.98 })
  })

  it('says of members of the front under which digest they are kept, and which of them answer only when pinned', () => {
    expect(candidates.slice(1).map(({ recipe, fate, pinnedOnly, variant }) => ({ recipe, fate, pinnedOnly, variant }))).toEqual([
      { recipe: 'fast', fate: 'front', pinnedOnly: undefined, variant: 'd1' },
      { recipe: 'small', fate: 'front', pinnedOnly: true, variant: undefined },
    ])
  })
})
