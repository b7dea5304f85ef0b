// How far the outputs of models are from the original's: every layer may come closer and the whole not, where what is
// lost adds up.
import { freeOutputs } from '../../runtime/free-outputs.js'
import type { Session } from '../../runtime/session.js'
import { CALIBRATION_BATCH } from '../calibration/min-max.js'
import { openModel } from '../open-model.js'
import type { Model, PassContext } from '../passes/pass.js'
import { batchesOf } from '../samples.js'

/**
 * For each of `models`, the mean over its float32 outputs of Σ (value − original)² ÷ Σ original², on the context's samples; none
 * where no output is float32. */
export async function outputErrors(models: readonly Model[], original: Model, { samples, maxBatch, threads, workDir, signal }: PassContext): Promise<number[]> {
  const sessions: Session[] = []
  const sums = models.map(() => new Map<string, { error: number; energy: number }>())
  try {
    for (const model of [original, ...models]) sessions.push(await openModel(model, { threads, workDir }))
    const [reference, ...others] = sessions
    for (const { feeds } of batchesOf(samples, Math.min(CALIBRATION_BATCH, maxBatch))) {
      signal?.throwIfAborted()
      const wanted = await reference!.run(feeds)
      for (const [i, session] of others.entries()) {
        const found = await session.run(feeds)
        for (const [name, { data }] of Object.entries(wanted)) if (data instanceof Float32Array) add(sums[i]!, name, data, found[name]?.data as Float32Array)
        freeOutputs(found)
      }
      freeOutputs(wanted)
    }
  } finally {
    for (const session of sessions) await session.release()
  }
  return sums.flatMap((outputs) => {
    const shares = [...outputs.values()].map(({ error, energy }) => (error === 0 ? 0 : error / energy))
    return shares.length === 0 ? [] : [shares.reduce((sum, share) => sum + share, 0) / shares.length]
  })
}

function add(sums: Map<string, { error: number; energy: number }>, name: string, wanted: Float32Array, found: Float32Array): void {
  const own = sums.get(name) ?? { error: 0, energy: 0 }
  sums.set(name, own)
  for (let i = 0; i < wanted.length; i++) {
    own.error += (wanted[i]! - found[i]!) ** 2
    own.energy += wanted[i]! ** 2
  }
}
