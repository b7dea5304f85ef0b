// Every pass on random models: the runtime loads the result, names and shapes stay, values are finite and
// within the pass's bound, every node is accounted for, and the model given is left as it was. 1,000 cases in all;
// FLYWEIGHT_CASES=20000 for more. A failure names its seed and the smallest size at which it happens.
import { describe, expect, it } from 'vitest'
import { labelledNodes } from '#flyweight/compress/passes/decisions.js'
import type { Model, Pass } from '#flyweight/compress/passes/pass.js'
import { passes } from '#flyweight/compress/passes/table.js'
import { parseRecipe } from '#flyweight/compress/recipe.js'
import { encodeModel } from '#flyweight/onnx/proto.js'
import { openSession } from '#flyweight/runtime/session.js'
import type { Tensor } from '#flyweight/tensor/tensor.js'
import { compressed, sqnr } from './compressing.js'
import { randomGraph, type RandomGraph } from './random-graphs.js'

interface Expectation {
  /** A recipe that makes the model that the pass is for; the recipe of the pass goes on from it. */
  after?: string
  /** Least signal to noise over an output in dB; absent where a pass changes what a model computes, as pruning does. */
  leastDb?: number
  /** Parameters that make it change small models too. */
  parameters?: Record<string, boolean | number | string>
}

/** What each pass promises of a random model; one that is not listed must load, keep its shapes and be finite. */
const promises: Record<string, Expectation> = {
  'int8-static': { leastDb: 8 },
  'int8-dynamic': { leastDb: 12 },
  int4: { leastDb: 3 },
  fp16: { leastDb: 40 },
  simplify: { leastDb: 80 },
  'smooth-quant': { leastDb: 80 },
  recover: { after: 'prune-channels(roundTo=1)+prune-weights(minWeights=0)' },
  'prune-channels': { parameters: { roundTo: 1 } },
}

const CASES = Number(process.env['FLYWEIGHT_CASES'] ?? 1000)
const casesEach = Math.ceil(CASES / passes.length)
/** One row takes other branches than the batches that calibration runs: there, shapes and finite values are all that can be promised. */
const ROWS = [3, 1]

describe.each(passes.map((pass) => ({ pass, name: pass.name })))('$name on random models', ({ pass }) => {
  it(`keeps its promises on ${casesEach} of them`, { timeout: 60_000 + casesEach * 500 }, async () => {
    const failures: string[] = []
    for (let seed = 1; seed <= casesEach; seed++) {
      const failure = await failureOf(pass, randomGraph(seed))
      if (failure !== undefined) failures.push(await cutShort(pass, seed, failure))
    }
    expect(failures).toEqual([])
  })
})

/** What is wrong with what `pass` makes of a random model, if anything is. */
async function failureOf(pass: Pass, { model, feeds, samples }: RandomGraph): Promise<string | undefined> {
  const { leastDb = Number.NEGATIVE_INFINITY, after } = promises[pass.name] ?? {}
  const before = encodeModel(model)
  try {
    const earlier = after === undefined ? [] : parseRecipe(after).recipe!
    const parent = after === undefined ? model : (await compressed(model, after, samples)).model
    const { model: variant, decisions } = await compressed(model, [...earlier, { pass: pass.name, ...parametersOf(pass) }], samples)
    if (!Buffer.from(before).equals(encodeModel(model))) return 'the model given was changed'
    const labels = [...labelledNodes(parent.graph)].map(({ label }) => label)
    const strays = labels.filter((label) => decisions.filter(({ node }) => node === label).length !== 1)
    if (strays.length > 0) return `nodes without exactly one decision: ${strays.join(', ')}`
    return await difference(parent, variant, feeds, leastDb)
  } catch (error) {
    return String(error)
  }
}

function parametersOf(pass: Pass): Record<string, boolean | number | string> {
  return { ...('minWeights' in pass.parameters.properties ? { minWeights: 0 } : {}), ...promises[pass.name]?.parameters }
}

async function difference(source: Model, variant: Model, feeds: RandomGraph['feeds'], leastDb: number): Promise<string | undefined> {
  const sessions = [await openSession(encodeModel(source))]
  try {
    sessions.push(await openSession(encodeModel(variant)))
    const [expected, actual] = sessions.map(({ inputs, outputs }) => JSON.stringify([inputs, outputs]))
    if (expected !== actual) return `inputs and outputs were ${expected} and are ${actual}`
    for (const rows of ROWS) {
      const inputs = feeds(rows, 0)
      const [wanted, got] = [await sessions[0]!.run(inputs), await sessions[1]!.run(inputs)]
      for (const name in wanted) {
        const complaint = compared(wanted[name]!, got[name]!, rows === 1 ? Number.NEGATIVE_INFINITY : leastDb)
        if (complaint !== undefined) return `${complaint} at ${rows} rows`
      }
    }
    return undefined
  } finally {
    for (const session of sessions) await session.release()
  }
}

function compared(wanted: Tensor, got: Tensor, leastDb: number): string | undefined {
  if (wanted.dtype !== got.dtype || String(wanted.dims) !== String(got.dims)) return `${wanted.dtype} [${wanted.dims}] became ${got.dtype} [${got.dims}]`
  if (!(got.data as Float32Array).every(Number.isFinite)) return 'values are not finite'
  const signal = sqnr(wanted, got)
  return signal >= leastDb || Number.isNaN(signal) ? undefined : `${signal.toFixed(1)} dB of signal to noise, at least ${leastDb} dB were promised`
}

/** The smallest size at which a seed's model still fails, in words. */
async function cutShort(pass: Pass, seed: number, failure: string): Promise<string> {
  for (let size = 1; ; size++) {
    const graph = randomGraph(seed, size)
    const found = await failureOf(pass, graph)
    if (found !== undefined) return `randomGraph(${seed}, ${size}): ${found.slice(0, 400)}; ${graph.operators}`
    if (size > 20) return `randomGraph(${seed}): ${failure.slice(0, 400)}`
  }
}
