import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { loadCheckpoint, saveCheckpoint } from '#flyweight/train/checkpoint.js'
import type { FitState } from '#flyweight/train/fit.js'

let folder: string
beforeEach(async () => void (folder = await mkdtemp(join(tmpdir(), 'checkpoint-'))))
afterEach(() => rm(folder, { recursive: true }))

const state = (step: number): FitState => ({
  training: { step, vectors: { parameters: Float32Array.of(0.1, NaN, -0, step), momentum: Float32Array.of(1e-40) } },
  best: { step: 3, vectors: { parameters: Float32Array.of(4), momentum: new Float32Array(1) } },
  curve: [{ step: 3, epoch: 0.5, loss: 0.25, heldOut: { loss: 0.5, accuracy: 0.75 } }],
})

it('gives back every bit of the latest state', async () => {
  const file = join(folder, 'training.npz')
  await saveCheckpoint(file, 'subject', state(5))
  await saveCheckpoint(file, 'subject', state(7))
  expect(await loadCheckpoint(file, 'subject')).toEqual(state(7))
  expect(await readdir(folder)).toEqual(['training.npz'])
})

it('is of one training only', async () => {
  const file = join(folder, 'training.npz')
  expect(await loadCheckpoint(file, 'subject')).toBeUndefined()
  await saveCheckpoint(file, 'subject', state(5))
  await expect(loadCheckpoint(file, 'other')).rejects.toThrow('checkpoint of another training')
  await writeFile(file, 'no npz')
  await expect(loadCheckpoint(file, 'subject')).rejects.toThrow('not an .npz file')
})
