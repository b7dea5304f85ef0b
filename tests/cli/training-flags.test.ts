// What the train command's flags mean: settings, and students in a few words.
import { expect, it } from 'vitest'
import { settingsOf, studentOf } from '#flyweight/cli/training-flags.js'

it.each([
  [{}, {}],
  [
    { settings: '{"epochs": 3, "seed": 1}', epochs: 5 },
    { epochs: 5, seed: 1 },
  ],
  [{ precision: 'mixed' }, { precision: { kind: 'mixed' } }],
  [{ precision: 'mixed:graph', settings: '{"precision": {"kind": "float32"}}' }, { precision: { kind: 'mixed', level: 'graph' } }],
  [{ parallel: '2', settings: '{"parallel": {"buckets": 2}}' }, { parallel: { buckets: 2, data: 2 } }],
  [{ parallel: 'pipeline=2,schedule=gpipe,recompute' }, { parallel: { pipeline: 2, schedule: 'gpipe', recompute: true } }],
])('flags %j are the settings %j', async (flags, settings) => {
  expect(await settingsOf(flags)).toEqual(settings)
})

it('refuses ranks that are no settings', async () => {
  await expect(settingsOf({ parallel: '2 threads' })).rejects.toThrow('--parallel: got 2 threads, expected a number of ranks')
})

it.each(['[]', '3', '{'])('refuses %s as settings', async (settings) => {
  await expect(settingsOf({ settings: settings.padStart(3, ' ') })).rejects.toThrow('--settings: got')
})

it.each([
  ['mlp:64,32', { kind: 'mlp', hidden: [64, 32] }],
  ['mlp:', { kind: 'mlp', hidden: [] }],
  ['cnn:16,32', { kind: 'cnn', channels: [16, 32], hidden: [] }],
  ['cnn:16,32/64', { kind: 'cnn', channels: [16, 32], hidden: [64] }],
  ['transformer:', { kind: 'transformer', width: 64, depth: 4, heads: 4, expansion: 2, patch: 4 }],
  ['transformer:width=32,heads=2', { kind: 'transformer', width: 32, depth: 4, heads: 2, expansion: 2, patch: 4 }],
  ['shrink:width=0.5', { kind: 'shrink', width: 0.5 }],
  ['shrink:depth=0.5,width=.25', { kind: 'shrink', depth: 0.5, width: 0.25 }],
  ['model:other', { kind: 'model', model: 'other' }],
  ['model:./folder/other.onnx', { kind: 'model', model: './folder/other.onnx' }],
  ['{"kind": "model", "model": "other", "version": "3"}', { kind: 'model', model: 'other', version: '3' }],
])('%s', (text, student) => {
  expect(studentOf(text)).toEqual(student)
})

it.each([
  ['64,32', '--student: got 64,32, expected mlp:64,32 or'],
  ['mlp:64/32', '--student: got mlp:64/32, expected mlp:64,32 or'],
  ['mlp:a', '--student: got mlp:a, expected'],
  ['mlp:,64', '--student: got mlp:,64, expected'],
  ['cnn:', '--student: got cnn:, expected'],
  ['transformer:32', '--student: got transformer:32, expected'],
  ['transformer:breadth=3', '--student/breadth: there is no such option of transformer'],
  ['shrink:', '--student: got shrink without width and depth'],
  ['shrink:width=1.5', '--student/width: got 1.5'],
  ['model:', '--student/model: got ""'],
  ['{"kind": "mlp"', '--student: got {"kind": "mlp", expected JSON'],
  ['{"kind": "rnn"}', '--student/kind: got "rnn", expected one of mlp, cnn, transformer, model, shrink'],
])('%s is refused', (text, message) => {
  expect(() => studentOf(text)).toThrow(message)
})
