// What a model in parts will do: a rank takes as long as its slowest part, and all of its parts hand on what they have to
// all of the next. Pure.
import type { NodeProto } from '../../onnx/proto.js'
import type { ShardPlan } from '../../measurements.js'
import { sumsByStage } from '../plan.js'
import { linkMs, type CostOptions } from '../stage-costs.js'
import type { PartStage } from './tensor-stages.js'

export interface PartCosts {
  /** Of a node of the whole, on a device of speed 1. */
  msOf(node: NodeProto): number
  /** Of a tensor of the whole, for one micro-batch. */
  bytesOf(tensor: string): number
}

type Part = Pick<PartStage, 'rank' | 'part' | 'inputs' | 'outputs' | 'shares' | 'origins' | 'weightBytes'>

/** @param options one device a part, in order */
export function planOfParts(
  parts: readonly Part[],
  { msOf, bytesOf }: PartCosts,
  { devices, msPerByte = 0, msPerHop = 0, microBatches }: CostOptions & { microBatches: number },
): ShardPlan {
  const passing = (names: readonly string[], origins: Part['origins']) =>
    names.reduce((sum, name) => sum + bytesOf(origins.get(name)!.tensor) * origins.get(name)!.share, 0)
  const writers = new Map(parts.flatMap(({ outputs }, stage) => outputs.map((name) => [name, stage] as const)))
  const stages = parts.map(({ rank, part, inputs, outputs, shares, origins, weightBytes }) => {
    const { name: device, speed = 1 } = devices[part]!
    const computeMs = [...shares].reduce((sum, [node, share]) => sum + msOf(node) * share, 0) / speed
    const [inBytes, outBytes] = [passing(inputs, origins), passing(outputs, origins)]
    const reads = sumsByStage(inputs.flatMap((name) => (writers.has(name) ? [{ from: writers.get(name)!, bytes: passing([name], origins) }] : [])))
    const transferMs = linkMs(inBytes + outBytes, msPerByte)
    return { rank, part, device, nodes: shares.size, weightBytes, computeMs, transferMs, inBytes, outBytes, reads }
  })
  const timesOf = (chosen: readonly (typeof stages)[number][]) => chosen.map(({ computeMs, transferMs }) => computeMs + transferMs)
  const ranks = new Set(stages.map(({ rank }) => rank))
  const slowest = [...ranks].map((rank) => Math.max(...timesOf(stages.filter((stage) => stage.rank === rank))) + msPerHop)
  const busy = devices.map((_, part) => timesOf(stages.filter((stage) => stage.part === part)).reduce((sum, ms) => sum + ms, 0))
  const [latencyMs, intervalMs] = [slowest.reduce((sum, ms) => sum + ms, 0), Math.max(...busy)]
  const elapsed = latencyMs + (microBatches - 1) * intervalMs
  const crossing = parts.map(({ inputs, origins }) =>
    passing(
      inputs.filter((name) => writers.has(name)),
      origins,
    ),
  )
  return {
    strategy: 'tensor',
    stages,
    microBatches,
    latencyMs,
    intervalMs,
    bubbleShare: elapsed === 0 ? 0 : 1 - (microBatches * busy.reduce((sum, ms) => sum + ms, 0)) / (devices.length * elapsed),
    crossingBytes: crossing.reduce((sum, bytes) => sum + bytes, 0),
  }
}
