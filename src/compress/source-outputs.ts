// What the source model puts out on the samples that variants are compared on, kept from the first comparison: a search
// compares dozens of variants with the same model on the same rows.
import type { Tensor } from '../tensor/tensor.js'

export interface SourceOutputs {
  /** The outputs of the batch that begins with row `from`: as kept, or by `run`. Nobody may change them. */
  of(from: number, run: () => Promise<Record<string, Tensor>>): Promise<Readonly<Record<string, Tensor>>>
}

/** Keeps outputs as long as all together are at most `mostBytes`, and those of further batches not at all. For one model, one set of samples and one size of batches. */
export function keptOutputs(mostBytes: number): SourceOutputs {
  const kept = new Map<number, Record<string, Tensor>>()
  let bytes = 0
  return {
    of: async (from, run) => {
      const known = kept.get(from)
      if (known !== undefined) return known
      const outputs = await run()
      const own = Object.values(outputs).reduce((sum, { data }) => sum + (Array.isArray(data) ? Infinity : data.byteLength), 0)
      if (bytes + own <= mostBytes) {
        bytes += own
        kept.set(from, outputs)
      }
      return outputs
    },
  }
}
