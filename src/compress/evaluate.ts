// Fidelity: how close a variant's outputs are to the source model's on sample inputs. Streams: one batch
// of both models' outputs is in memory at a time.
import type { Fidelity, OutputFidelity } from '../measurements.js'
import { openSession, type Session } from '../runtime/session.js'
import type { Tensor } from '../tensor/tensor.js'
import { batchesOf, type Samples } from './samples.js'
import type { SourceOutputs } from './source-outputs.js'
import { LabelTally, OutputTally } from './tally.js'

export interface EvaluateOptions {
  sourceFile: string
  variantFile: string
  samples: Samples
  /** True when the samples are noise, for want of real inputs. */
  synthetic: boolean
  /** Rows a run: 1 where the batch dimension is fixed. */
  batch: number
  /** Keeps what the source model puts out for the next comparison. */
  sourceOutputs?: SourceOutputs | undefined
  device: string
  threads: number
  onProgress?: (fraction: number) => void
  signal?: AbortSignal | undefined
}

/** Rows looked at; more would tell little and take time. */
const MOST_ROWS = 512

/** Compares both models on the samples. `finite` is whether every value of the variant was. */
export async function evaluate(options: EvaluateOptions): Promise<{ fidelity: Fidelity; finite: boolean }> {
  const { samples, synthetic, batch, device, threads, signal } = options
  let source: Session | undefined
  const runSource = async (feeds: Readonly<Record<string, Tensor>>) => {
    source ??= await openSession(options.sourceFile, { device, threads })
    return source.run(feeds)
  }
  let variant: Session | undefined
  try {
    variant = await openSession(options.variantFile, { device, threads })
    const tallies = new Map<string, OutputTally>()
    const labelled = new LabelTally(samples.labels)
    let rows = 0
    for (const { from, count, feeds } of batchesOf(samples, batch, MOST_ROWS)) {
      signal?.throwIfAborted()
      const dimsOfInputs = Object.values(feeds).map(({ dims }) => String(dims))
      const expected = await (options.sourceOutputs?.of(from, () => runSource(feeds)) ?? runSource(feeds))
      const actual = await variant.run(feeds)
      for (const [name, wanted] of Object.entries(expected)) {
        const tally = tallies.get(name) ?? new OutputTally()
        tallies.set(name, tally)
        tally.add(wanted, actual[name] as Tensor, !isState(wanted, dimsOfInputs, count))
      }
      labelled.add(expected, actual, { from, count })
      rows += count
      options.onProgress?.(rows / Math.min(samples.rows, MOST_ROWS))
    }
    const outputs = Object.fromEntries([...tallies].map(([name, tally]) => [name, tally.result()]))
    const labels = labelled.result()
    return {
      fidelity: { ...score(outputs, labels.accuracy), samples: rows, synthetic, outputs, ...labels },
      finite: [...tallies.values()].every(({ finite }) => finite),
    }
  } finally {
    await source?.release()
    await variant?.release()
  }
}

function score(outputs: Readonly<Record<string, OutputFidelity>>, accuracy: Fidelity['accuracy']): Pick<Fidelity, 'score' | 'definition'> {
  if (accuracy !== undefined && accuracy.source > 0) {
    return { score: Math.min(1, accuracy.variant / accuracy.source), definition: 'share of correct labels relative to the source model, at most 1' }
  }
  const scores = Object.values(outputs).map(({ top1, cosine }) => top1 ?? Math.max(0, cosine))
  return {
    score: scores.length === 0 ? 0 : Math.min(...scores),
    definition:
      'lowest over outputs of: share of equal argmaxes over the last axis where the output is a distribution or scores (rank 2 or 3, no recurrent state), else cosine similarity',
  }
}

/** Whether an output is the state a recurrent model takes in again: as an input in shape, and not one entry a row. */
function isState({ dims }: Tensor, dimsOfInputs: readonly string[], rows: number): boolean {
  return dims[0] !== rows && dimsOfInputs.includes(String(dims))
}
