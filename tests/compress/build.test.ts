// One whole build on the digits network: the report tells the whole story. What the gate says about speed
// depends on the machine, so only that it says something is asserted.
import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { buildVariant, type BuildRequest, type BuildResult } from '#flyweight/compress/build.js'
import { FlyweightError } from '#flyweight/errors.js'
import { loadModel, saveModel } from '#flyweight/onnx/load.js'
import { tileRows } from '#flyweight/runtime/sample-inputs.js'
import { noiseSamples, withFolder } from './compressing.js'

const digits = fileURLToPath(new URL('../fixtures/digits_cnn.onnx', import.meta.url))
const samples = noiseSamples([1, 28, 28], 12)

async function built<T>(
  request: unknown,
  look: (result: BuildResult, steps: [number, string][]) => Promise<T> | T,
  changes: Partial<BuildRequest> = {},
): Promise<T> {
  return withFolder(async (workDir) => {
    const steps: [number, string][] = []
    const result = await buildVariant({
      sourceFile: digits,
      sourceDigest: 'source',
      request,
      samples,
      synthetic: false,
      maxBatch: 32,
      feedsAt: (batch) => tileRows(samples.take(0, 1), batch),
      batches: [1, 4],
      minFidelity: 0.5,
      device: 'cpu',
      threads: 1,
      profileBudgetMs: 50,
      workDir,
      onProgress: (fraction, step) => steps.push([fraction, step]),
      ...changes,
    })
    return look(result, steps)
  })
}

describe('a build', () => {
  it('reports recipe, nodes, fidelity, latencies and verdict', async () => {
    await built('int8', async ({ file, name, recipe, sizeOnly, report, latencies }, steps) => {
      expect({ name, sizeOnly }).toEqual({ name: 'int8', sizeOnly: false })
      expect(recipe.map(({ pass }) => pass)).toEqual(['int8-static'])
      expect(report).toMatchObject({ recipe, sourceDigest: 'source', fidelity: { samples: 12, synthetic: false }, sourceBytes: (await stat(digits)).size })
      expect(report.chosenBecause).toContain('convolutions')
      expect(report.variantBytes).toBe((await stat(file)).size)
      expect(report.variantBytes).toBeLessThan(0.5 * report.sourceBytes)
      expect(report.passes).toMatchObject([{ pass: 'int8-static' }])
      expect(report.nodes.every(({ node, reason }) => node !== '' && reason !== '')).toBe(true)
      for (const { name: node } of (await loadModel(digits)).graph.node) expect(report.nodes.filter((decision) => decision.node === node)).toHaveLength(1)
      expect(latencies.map(({ batch }) => batch)).toEqual([1, 4])
      expect(report.gate.latencies.map(({ batch }) => batch)).toEqual([1, 4])
      expect(report.gate.latencies.every(({ parentP50Ms, variantP50Ms, ratio }) => parentP50Ms > 0 && variantP50Ms > 0 && ratio > 0)).toBe(true)
      expect(report.gate.admitted).toBe(!report.gate.reason.includes('slower than its parent:'))
      expect(JSON.parse(JSON.stringify(report))).toEqual(report)
      const fractions = steps.map(([fraction]) => fraction)
      expect(fractions).toEqual(fractions.toSorted((a, b) => a - b))
      expect(fractions.every((fraction) => fraction >= 0 && fraction <= 1)).toBe(true)
    })
  })

  it('judges on rows it did not calibrate on, where there are enough', async () => {
    const taken: number[] = []
    const many = {
      ...noiseSamples([1, 28, 28], 20),
      take: (from: number, count: number) => (taken.push(from), noiseSamples([1, 28, 28], 20).take(from, count)),
    }
    await built('int8-static', ({ report }) => expect(report.fidelity).toMatchObject({ samples: 10, calibrationSamples: 10, heldOut: true }), { samples: many })
    expect(new Set(taken).size).toBe(20)
    await built('fp16', ({ report }) => expect(report.fidelity).toMatchObject({ samples: 12, calibrationSamples: 12, heldOut: false }))
    await built('fp16', ({ report }) => expect(report.fidelity).toMatchObject({ samples: 5, calibrationSamples: 12, heldOut: true }), {
      evaluation: noiseSamples([1, 28, 28], 5),
    })
  })

  it('gives the same bytes again', async () => {
    const bytes = () => built('int8-static', ({ file }) => readFile(file))
    expect((await bytes()).equals(await bytes())).toBe(true)
  })

  it('promises size only for fp16 on a CPU, and keeps it', async () => {
    await built('fp16', ({ sizeOnly, report }) => {
      expect(sizeOnly).toBe(true)
      expect(report.gate).toMatchObject({ admitted: true, reason: expect.stringContaining('size-only') })
      expect(report.chosenBecause).toBeUndefined()
    })
  })

  it('counts external data as part of the size', async () => {
    await withFolder(async (folder) => {
      const sourceFile = join(folder, 'external.onnx')
      await saveModel(await loadModel(digits), sourceFile, { externalThresholdBytes: 0 })
      expect((await stat(sourceFile)).size).toBeLessThan(0.5 * (await stat(digits)).size)
      await built('fp16', ({ report }) => expect(report.gate.admitted).toBe(true), { sourceFile })
    })
  })

  it('calibrates and compares models whose batch dimension is fixed', async () => {
    await withFolder(async (folder) => {
      const model = await loadModel(digits)
      for (const { type } of [...model.graph.input, ...model.graph.output]) {
        if (type?.value.case === 'tensorType') type.value.value.shape!.dim[0]!.value = { case: 'dimValue', value: 1n }
      }
      const sourceFile = join(folder, 'fixed.onnx')
      await saveModel(model, sourceFile)
      await built('int8-static', ({ report }) => expect(report.fidelity.samples).toBe(12), { sourceFile, maxBatch: 1, batches: [1] })
    })
  })
})

describe('a build that fails', () => {
  it('rejects what changes nothing', async () => {
    const exclude = (await loadModel(digits)).graph.node.map((node) => node.name)
    await built([{ pass: 'fp16', exclude }], ({ report }) =>
      expect(report.gate).toMatchObject({ admitted: false, reason: expect.stringContaining('nothing to change') }),
    )
  })

  it('rejects what is not faithful enough', async () => {
    await built('fp16', ({ report }) => expect(report.gate).toMatchObject({ admitted: false, reason: expect.stringContaining('fidelity') }), {
      minFidelity: 1.1,
    })
  })

  it('rejects what takes or gives other types than the source', async () => {
    await built('fp16(io=float16)', ({ report }) => {
      expect(report.gate).toMatchObject({ admitted: false, reason: expect.stringContaining('is float16 where') })
      expect(report.fidelity.score).toBeGreaterThan(0.9)
    })
  })

  it('says what is wrong with a recipe', async () => {
    await expect(built('int3', () => undefined)).rejects.toThrow(FlyweightError)
  })

  it('stops when told to', async () => {
    await expect(built('int8-static', () => undefined, { signal: AbortSignal.abort() })).rejects.toThrow(/abort/i)
  })
})
