// The gate: may a freshly built variant serve? Pure. It must be finite and faithful, and must not be slower
// than its parent at any batch size measured, unless its recipe promises size only.
import type { GateLatency, GateVerdict } from '../measurements.js'

export interface GateInput {
  /** Nodes that the recipe changed. */
  changedNodes: number
  finite: boolean
  fidelity: number
  minFidelity: number
  latencies: readonly GateLatency[]
  /** The recipe promises a smaller file and nothing more. */
  sizeOnly: boolean
  sourceBytes: number
  variantBytes: number
}

/** Two interleaved measurements of the same model differ by about this much on a busy machine. */
const NOISE = 0.02

export function judge({ changedNodes, finite, fidelity, minFidelity, latencies, sizeOnly, sourceBytes, variantBytes }: GateInput): GateVerdict {
  const verdict = (admitted: boolean, reason: string): GateVerdict => ({ admitted, reason, finite, latencies })
  if (changedNodes === 0) return verdict(false, 'the recipe found nothing to change in this model; the report says why for each node')
  if (!finite) return verdict(false, 'it gives values that are not finite where the source model does not')
  if (!(fidelity >= minFidelity))
    return verdict(false, `its fidelity ${fidelity.toFixed(4)} is below the minimum ${minFidelity}: lower policy.minFidelity in model.yaml to accept it`)
  if (sizeOnly) {
    if (variantBytes >= sourceBytes) return verdict(false, `it promises a smaller file, but has ${variantBytes} bytes where its parent has ${sourceBytes}`)
    return verdict(true, `${percent(variantBytes / sourceBytes)} of its parent's size; a size-only variant, so its latency does not count`)
  }
  if (latencies.length === 0) return verdict(false, 'its latency was not measured at any batch size')
  const slower = latencies.filter(({ ratio }) => !(ratio <= 1 + NOISE))
  if (slower.length > 0) return verdict(false, `it is slower than its parent: ${slower.map(describe).join(', ')}`)
  return verdict(true, `not slower than its parent at any batch size: ${latencies.map(describe).join(', ')}`)
}

function describe({ batch, ratio }: GateLatency): string {
  return `${percent(ratio)} of its time at batch ${batch}`
}

function percent(share: number): string {
  return `${(share * 100).toFixed(0)} %`
}
