// Readers of what a block cuts. They must lie in the block; those that only ask for sizes are taken into it: of a part
// they get the sizes of the part, which is what the block's reshapes need.
import type { NodeProto } from '../../onnx/proto.js'
import type { Block, BlockContext } from './block.js'
import { fixedSizes } from './axis-split.js'
import { isStandard } from './rules.js'

const OF_SIZES =
  'Add Cast Concat Constant Div Equal Floor Gather Identity Mul Neg Pow Range ReduceProd Reshape Shape Slice Sqrt Squeeze Sub Unsqueeze Where'.split(' ')

/**
 * Adds to the block's nodes those that compute from sizes of what it cuts. False where something else outside of the
 * block reads what is cut, or a reshape cannot be told its new size.
 */
export function derivedNodes(
  { nodes, splits, output }: Pick<Block, 'splits' | 'output'> & { nodes: Set<NodeProto> },
  { index, isConstant, shapes }: BlockContext,
): boolean {
  const derived = new Set<string>()
  const readers = (tensor: string) => index.consumers(tensor).filter((reader) => !nodes.has(reader))
  const waiting = [...splits.keys()].filter((tensor) => !isConstant(tensor) && tensor !== output)
  for (let tensor = waiting.pop(); tensor !== undefined; tensor = waiting.pop()) {
    for (const reader of readers(tensor)) {
      const ofSizes = isStandard(reader) && OF_SIZES.includes(reader.opType) && (reader.opType === 'Shape' || derived.has(tensor))
      if (!ofSizes || reader.output.some((name) => index.isOutput(name))) return false
      nodes.add(reader)
      for (const name of reader.output) derived.add(name)
      waiting.push(...reader.output)
    }
  }
  return [...nodes].every((node) => {
    const split = splits.get(node.output[0] as string)
    if (split === undefined || (node.opType !== 'Reshape' && node.opType !== 'Expand')) return true
    const shape = node.input[1] as string
    const asked = shapes.ints(shape)?.[split.axis]
    return fixedSizes(split) !== undefined || derived.has(shape) || (asked !== undefined && asked <= 0)
  })
}
