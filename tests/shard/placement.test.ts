// Placement against every possible one, on few stages and hosts.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { placeStages, type HostRoom, type StageDemand } from '#flyweight/shard/placement.js'

/** All ways to give each stage one of `count` hosts. */
function* allPlacements(stages: number, count: number): Generator<number[]> {
  if (stages === 0) yield []
  else for (const rest of allPlacements(stages - 1, count)) for (let host = 0; host < count; host++) yield [...rest, host]
}

function fits(placed: readonly number[], stages: readonly StageDemand[], hosts: readonly HostRoom[]): boolean {
  return hosts.every(({ budgetBytes = Infinity, heldBytes = 0 }, host) => {
    const bytes = stages.reduce((sum, stage, index) => sum + (placed[index] === host ? stage.bytes : 0), 0)
    return bytes + heldBytes <= budgetBytes || bytes === 0
  })
}

const problems = fc.record({
  stages: fc.array(
    fc.record({ bytes: fc.integer({ min: 1, max: 10 }), ms: fc.integer({ min: 0, max: 9 }), planned: fc.constantFrom('cpu:0', 'cpu:1', 'cpu:2', 'gone') }),
    { minLength: 1, maxLength: 5 },
  ),
  hosts: fc
    .array(fc.record({ budgetBytes: fc.integer({ min: 5, max: 25 }), heldBytes: fc.integer({ min: 0, max: 5 }), speed: fc.constantFrom(1, 2) }), {
      minLength: 1,
      maxLength: 3,
    })
    .map((hosts) => hosts.map((host, index): HostRoom => ({ name: `cpu:${index}`, ...host }))),
})

describe('placement', () => {
  it('keeps budgets, is found wherever there is one, and leaves stages where they are wherever that can be', () => {
    fc.assert(
      fc.property(problems, ({ stages, hosts }) => {
        const all = [...allPlacements(stages.length, hosts.length)].filter((placed) => fits(placed, stages, hosts))
        if (all.length === 0) {
          expect(() => placeStages(stages, hosts)).toThrow(expect.objectContaining({ code: 'invalid_plan' }))
          return
        }
        const names = placeStages(stages, hosts)
        const placed = names.map((name) => hosts.findIndex((host) => host.name === name))
        expect(fits(placed, stages, hosts)).toBe(true)
        const stays = (each: readonly number[]) =>
          stages.every(({ planned }, stage) => planned === 'gone' || !hosts.some(({ name }) => name === planned) || hosts[each[stage]!]!.name === planned)
        if (all.some(stays)) expect(stays(placed)).toBe(true)
      }),
      { numRuns: 1000, seed: 3 },
    )
  })

  it('puts the stages of a host that is gone where most room is', () => {
    const stages = [
      { bytes: 10, ms: 1, planned: 'cpu:0' },
      { bytes: 10, ms: 1, planned: 'cpu:1' },
      { bytes: 10, ms: 1, planned: 'cpu:2' },
    ]
    const hosts = [
      { name: 'cpu:0', budgetBytes: 30, heldBytes: 5 },
      { name: 'cpu:2', budgetBytes: 40, heldBytes: 5 },
    ]
    expect(placeStages(stages, hosts)).toEqual(['cpu:0', 'cpu:2', 'cpu:2'])
  })

  it('shares stages out by time where nothing limits the bytes', () => {
    const stages = [6, 5, 4, 3].map((ms) => ({ bytes: 1, ms }))
    expect(placeStages(stages, [{ name: 'cpu:0' }, { name: 'cpu:1' }])).toEqual(['cpu:0', 'cpu:1', 'cpu:1', 'cpu:0'])
    expect(placeStages(stages, [{ name: 'cpu:0' }, { name: 'cpu:1', speed: 100 }])).toEqual(['cpu:1', 'cpu:1', 'cpu:1', 'cpu:1'])
  })

  it('moves what need not move only where the rest would not fit', () => {
    const stages = [
      { bytes: 4, ms: 1, planned: 'cpu:0' },
      { bytes: 6, ms: 1, planned: 'gone' },
    ]
    const hosts = [
      { name: 'cpu:0', budgetBytes: 6 },
      { name: 'cpu:1', budgetBytes: 4 },
    ]
    expect(placeStages(stages, hosts)).toEqual(['cpu:1', 'cpu:0'])
  })

  it('says what does not fit', () => {
    const tooBig = () =>
      placeStages(
        [{ bytes: 70, ms: 1 }],
        [
          { name: 'cpu:0', budgetBytes: 64, heldBytes: 4 },
          { name: 'cpu:1', budgetBytes: 10 },
        ],
      )
    expect(tooBig).toThrow('stages of 70 bytes do not fit the devices: cpu:0 has room for 60, cpu:1 has room for 10')
    expect(() => placeStages([{ bytes: 1, ms: 1 }], [])).toThrow('no device is there to hold 1 stages')
  })
})
