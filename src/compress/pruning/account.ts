// What a removal of channels comes to: multiply-accumulates and bytes that are left, a decision for every node, and
// the record of kept channels that later passes read from the model.
import type { NodeDecision } from '../../measurements.js'
import { intAttribute } from '../../onnx/attributes.js'
import { dtypeOf } from '../../onnx/builder.js'
import { create, StringStringEntryProtoSchema, type NodeProto } from '../../onnx/proto.js'
import { dtypes, elementCount } from '../../tensor/tensor.js'
import { labelOf } from '../passes/decisions.js'
import type { Model } from '../passes/pass.js'
import type { AxisRef } from './coordinates.js'
import type { Groups } from './groups.js'
import { graphMacs } from './macs.js'
import { rankOf } from './coupling.js'
import { keptDims, type Kept } from './surgery.js'

/** Metadata property of a pruned model: JSON of `KeptChannels`. */
const KEPT_KEY = 'flyweight.kept'

/** By output tensor of a node with weights: which indices along an axis of `of` are left. Names and indices are those of the model before any pruning. */
type KeptChannels = Record<string, { axis: number; of: number; kept: number[] }>

export interface Costs {
  /** Multiply-accumulates of the first feed set, which is one row. */
  macs: number
  /** Bytes of all initializers of types that Flyweight carries. */
  bytes: number
}

export function costs({ graph }: Model, found: Groups, kept: Kept): Costs {
  const dimsOf = keptDims(found, kept)
  const bytes = graph.initializer.reduce((sum, { name, dims, dataType }) => {
    const width = dtypes[dtypeOf(dataType) ?? 'string'].bytes
    return sum + width * elementCount(dims.map((dim, axis) => kept(name, axis)?.length ?? Number(dim)))
  }, 0)
  return { macs: graphMacs(graph, dimsOf), bytes }
}

/** Axes of a node with constant weights along which its outputs and inputs lie; undefined for other nodes. */
export function channelAxes(node: NodeProto, { facts, weights }: Groups): { output: AxisRef; input: AxisRef } | undefined {
  const [x = '', w = ''] = node.input
  const y = node.output[0] ?? ''
  if (!weights.has(w) || (node.domain !== '' && node.domain !== 'ai.onnx')) return undefined
  const last = (tensor: string) => ({ tensor, axis: rankOf(tensor, facts.shapes) - 1 })
  switch (node.opType) {
    case 'Conv':
    case 'ConvTranspose':
      return { output: { tensor: y, axis: 1 }, input: { tensor: x, axis: 1 } }
    case 'Gemm':
      return { output: last(y), input: { tensor: x, axis: intAttribute(node, 'transA', 0) === 0 ? 1 : 0 } }
    case 'MatMul':
      return { output: last(y), input: last(x) }
    default:
      return undefined
  }
}

/** One decision for each node of the outermost graph. */
export function decide({ graph }: Model, found: Groups, { kept, roundTo }: { kept: Kept; roundTo: number }): NodeDecision[] {
  const { coordinates, facts } = found
  const left = ({ tensor, axis }: AxisRef) => {
    const size = facts.shapes.period(tensor, axis)
    return `${kept(tensor, axis)?.length ?? size} of ${size}`
  }
  const why = (axis: AxisRef) => {
    const reasons = coordinates.classesOf(axis).map((root) => coordinates.blockedBy(root))
    const free = reasons.filter((reason) => reason === undefined).length
    if (reasons.length === 0) return 'there is only one, or their number varies'
    return free > 0 ? `none was among those to remove in multiples of ${roundTo}` : (reasons[0] as string)
  }
  return graph.node.map((node) => {
    const decision = (action: NodeDecision['action'], reason: string): NodeDecision => ({
      node: labelOf(node),
      opType: node.opType,
      pass: 'prune-channels',
      action,
      reason,
    })
    const axes = channelAxes(node, found)
    if (axes !== undefined) {
      const { output, input } = axes
      if (kept(output.tensor, output.axis) ?? kept(input.tensor, input.axis))
        return decision(
          'done',
          `${left(output)} outputs and ${left(input)} inputs are left${kept(output.tensor, output.axis) ? '' : `; its outputs stay: ${why(output)}`}`,
        )
      return decision('skipped', `its outputs stay: ${why(output)}; and its inputs: ${why(input)}`)
    }
    const changed = [...node.output, ...node.input].flatMap((tensor) =>
      Array.from({ length: rankOf(tensor, facts.shapes) }, (_, axis) => ({ tensor, axis })).filter((axis) => kept(axis.tensor, axis.axis)),
    )
    if (changed[0] !== undefined) return decision('done', `${left(changed[0])} along axis ${changed[0].axis} of "${changed[0].tensor}" are left`)
    return decision('skipped', `${node.opType} has no channels that go`)
  })
}

/** Writes down which channels are left, beside what an earlier pruning wrote: names and indices refer to the model before both. */
export function recordKept(model: Model, found: Groups, kept: Kept): void {
  const entry = model.metadataProps.find(({ key }) => key === KEPT_KEY)
  const record: KeptChannels = entry === undefined ? {} : (JSON.parse(entry.value) as KeptChannels)
  for (const node of model.graph.node) {
    const { output } = channelAxes(node, found) ?? {}
    const indices = output && kept(output.tensor, output.axis)
    if (output === undefined || indices === undefined) continue
    const before = record[output.tensor]
    record[output.tensor] = {
      axis: output.axis,
      of: before?.of ?? (found.facts.shapes.size(output.tensor, output.axis) as number),
      kept: before === undefined ? indices : indices.map((i) => before.kept[i] as number),
    }
  }
  if (Object.keys(record).length === 0) return
  const value = JSON.stringify(record)
  if (entry) entry.value = value
  else model.metadataProps.push(create(StringStringEntryProtoSchema, { key: KEPT_KEY, value }))
}
