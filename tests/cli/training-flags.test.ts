import { expect, it } from 'vitest'
import { settingsOf } from '#flyweight/cli/training-flags.js'

it.each([
  [{}, {}],
  [
    { settings: '{"epochs": 3, "seed": 1}', epochs: 5 },
    { epochs: 5, seed: 1 },
  ],
  [{ precision: 'mixed' }, { precision: { kind: 'mixed' } }],
  [{ precision: 'mixed:graph', settings: '{"precision": {"kind": "float32"}}' }, { precision: { kind: 'mixed', level: 'graph' } }],
])('flags %j are the settings %j', async (flags, settings) => {
  expect(await settingsOf(flags)).toEqual(settings)
})

it.each(['[]', '3', '{'])('refuses %s as settings', async (settings) => {
  await expect(settingsOf({ settings: settings.padStart(3, ' ') })).rejects.toThrow('--settings: got')
})
