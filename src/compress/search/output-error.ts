// The error of a quantized model's outputs with some nodes in float, on a few rows: what leaving nodes out is ranked by.
// Where the model has QuantizeLinear/DequantizeLinear pairs, by taking those out; else by building it anew.
import { mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { OutputFidelity } from '../../measurements.js'
import { loadModel } from '../../onnx/load.js'
import { openSession, type Session } from '../../runtime/session.js'
import type { Tensor } from '../../tensor/tensor.js'
import { buildVariant } from '../build.js'
import { openModel } from '../open-model.js'
import { batchesOf, holdOut, type Samples } from '../samples.js'
import { keptOutputs } from '../source-outputs.js'
import { OutputTally } from '../tally.js'
import { bypass } from './bypass.js'
import type { TrialRequest } from './contender.js'
import { excluding } from './mixed.js'

/** A way to tell errors. Whoever made it releases it. */
export interface ErrorProbe {
  /**
   * Power of the error relative to that of the outputs, summed over them, with the nodes of these labels in float: infinite
   * where there is no such model, undefined where time is up.
   */
  errorWith(floats: readonly string[]): Promise<number | undefined>
  release(): Promise<void>
}

/** Rows to calibrate on and to compare on: enough to rank nodes by. */
const [CALIBRATION_ROWS, EVALUATION_ROWS] = [16, 16]
/** Bytes of the source model's outputs that are kept from one probe to the next. */
const MOST_KEPT_BYTES = 2 ** 26
/** Rows of a run: few, since unfused pairs keep every value in several forms. */
const BATCH = 2

/** Takes the quantization of the nodes' inputs out of the model in `file`. */
export function errorByBypass(file: string, request: TrialRequest): ErrorProbe {
  const { sourceFile, device, threads, signal } = request
  let source: Session | undefined
  const sourceOutputs = keptOutputs(MOST_KEPT_BYTES)
  return {
    errorWith: untilAborted(signal, async (floats) => {
      source ??= await openSession(sourceFile, { device, threads })
      const model = await loadModel(file)
      bypass(model, new Set(floats))
      const variant = await openModel(model, { device, threads })
      try {
        const reference = source
        const tallies = new Map(reference.outputs.map(({ name }) => [name, new OutputTally()]))
        for (const { from, feeds } of batchesOf(firstRows(divided(request).evaluation, EVALUATION_ROWS), Math.min(BATCH, request.maxBatch))) {
          signal.throwIfAborted()
          const [expected, actual] = [await sourceOutputs.of(from, () => reference.run(feeds)), await variant.run(feeds)]
          for (const [name, tally] of tallies) tally.add(expected[name] as Tensor, actual[name] as Tensor, false)
        }
        return summed([...tallies.values()].map((tally) => tally.result()))
      } finally {
        await variant.release()
      }
    }),
    release: async () => source?.release(),
  }
}

/** Builds `recipe` with the nodes excluded, in a folder inside `folder`. */
export function errorByBuild(recipe: string, request: TrialRequest, folder: string): ErrorProbe {
  const sourceOutputs = keptOutputs(MOST_KEPT_BYTES)
  return {
    errorWith: untilAborted(request.signal, async (floats) => {
      const workDir = await mkdtemp(join(folder, 'short-'))
      try {
        const { calibration, evaluation } = divided(request)
        const rows = { samples: firstRows(calibration, CALIBRATION_ROWS), evaluation: firstRows(evaluation, EVALUATION_ROWS) }
        const { report } = await buildVariant({ ...request, ...rows, sourceOutputs, request: excluding(recipe, floats), batches: [], workDir })
        return summed(Object.values(report.fidelity.outputs))
      } finally {
        await rm(workDir, { recursive: true, force: true })
      }
    }),
    release: () => Promise.resolve(),
  }
}

function untilAborted(signal: AbortSignal, errorOf: (floats: readonly string[]) => Promise<number>): ErrorProbe['errorWith'] {
  return async (floats) => {
    if (signal.aborted) return undefined
    try {
      return await errorOf(floats)
    } catch {
      return signal.aborted ? undefined : Infinity
    }
  }
}

function summed(outputs: readonly OutputFidelity[]): number {
  return outputs.reduce((sum, { sqnrDb }) => sum + 10 ** (-sqnrDb / 10), 0)
}

function divided({ samples, evaluation }: TrialRequest): { calibration: Samples; evaluation: Samples } {
  return evaluation === undefined ? holdOut(samples) : { calibration: samples, evaluation }
}

function firstRows(samples: Samples, most: number): Samples {
  const { rows, digest, labels, alike } = samples
  return {
    rows: Math.min(rows, most),
    digest: `${digest}/first ${most}`,
    labels,
    take: (from, count) => samples.take(from, count),
    ...(alike === undefined ? {} : { alike: (from: number, count: number) => samples.alike?.(from, count) ?? count }),
  }
}
