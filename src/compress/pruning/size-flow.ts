// Where the sizes go that a model reads off its tensors: lists of sizes that only tell other operators how to arrange
// values follow a removal by themselves; numbers that are computed with would change what the model computes.
import { intAttribute } from '../../onnx/attributes.js'
import type { GraphIndex } from '../../onnx/graph.js'
import type { NodeProto } from '../../onnx/proto.js'
import { constantNumbers } from './coupling.js'

/** Operators that pass sizes on as they are. */
const MOVES: ReadonlySet<string> = new Set(['Cast', 'Concat', 'Gather', 'Identity', 'Slice', 'Squeeze', 'Unsqueeze'])
/** Which input of an operator is a list of sizes. */
const SIZE_INPUTS: Readonly<Record<string, number>> = { ConstantOfShape: 0, Expand: 1, Reshape: 1, Resize: 3 }

/** Axes of a `Shape` node's input whose sizes are only passed on to operators that arrange values. */
export function arrangingAxes(node: NodeProto, rank: number, index: GraphIndex): number[] {
  const bound = (name: string, fallback: number) => {
    const given = intAttribute(node, name, fallback)
    return given < 0 ? given + rank : given
  }
  const shape = node.output[0] ?? ''
  const axes = Array.from({ length: rank }, (_, axis) => axis)
  const read = axes.slice(bound('start', 0), bound('end', rank))
  if (index.isOutput(shape)) return []
  const computed = new Set<number>()
  for (const reader of index.consumers(shape)) {
    if (!arranges(reader, shape, index)) for (const axis of picked(reader, read, index)) computed.add(axis)
  }
  return axes.filter((axis) => !computed.has(axis))
}

/** The axes whose sizes a reader takes out of a shape: all, where that is not known. */
function picked(reader: NodeProto, read: readonly number[], index: GraphIndex): readonly number[] {
  if (reader.opType === 'Gather') return constantNumbers(reader, 1, index)?.map((at) => read.at(at) as number) ?? read
  if (reader.opType !== 'Slice') return read
  const [[start] = [], [end] = [], [step = 1] = []] = [1, 2, 4].map((position) => constantNumbers(reader, position, index))
  return start === undefined || end === undefined || step !== 1 ? read : read.slice(start, end)
}

function arranges(reader: NodeProto, tensor: string, index: GraphIndex): boolean {
  if (!MOVES.has(reader.opType)) return reader.input.every((name, position) => name !== tensor || SIZE_INPUTS[reader.opType] === position)
  return reader.output.every((result) => !index.isOutput(result) && index.consumers(result).every((next) => arranges(next, result, index)))
}
