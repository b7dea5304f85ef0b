// Rewrites of nodes that only move values or name them anew: pairs of Transpose or Reshape become one, and what
// is left of them when they cancel goes. They compute nothing, so results stay bitwise the same.
import { intAttribute, intsAttribute } from '../../onnx/attributes.js'
import { node } from '../../onnx/builder.js'
import type { GraphIndex } from '../../onnx/graph.js'
import { shallowCopy, type NodeProto } from '../../onnx/proto.js'
import { rule, type RewriteRule } from '../../onnx/rewrite.js'

export const layoutRules: readonly RewriteRule[] = [
  rule<{ source: string; order: number[] }>({
    name: 'transposes joined',
    opType: 'Transpose',
    match: (second, index) => {
      const first = index.producer(second.input[0]!)
      const [inner, outer] = [first?.opType === 'Transpose' ? intsAttribute(first, 'perm') : undefined, intsAttribute(second, 'perm')]
      return first && inner && outer && { source: first.input[0]!, order: outer.map((axis) => inner[axis]!) }
    },
    apply: ({ source, order }, { node: second }) => {
      const cancels = order.every((axis, position) => axis === position)
      const [output] = second.output as [string]
      return { nodes: [cancels ? node('Identity', [source], [output]) : node('Transpose', [source], [output], { attributes: { perm: order } })] }
    },
  }),
  rule<string>({
    name: 'reshapes joined',
    opType: 'Reshape',
    match: (second, index) => {
      const first = index.producer(second.input[0]!)
      const reshapes = first !== undefined && /^(Reshape|Flatten|Squeeze|Unsqueeze)$/.test(first.opType)
      return reshapes && namesEveryDimension(second, index) ? first.input[0] : undefined
    },
    apply: (source, { node: second }) => {
      const joined = shallowCopy(second)
      joined.input = [source, second.input[1]!]
      return { nodes: [joined] }
    },
  }),
]

/** Whether the target shape is known and copies no dimension from the input (which is what 0 means). */
function namesEveryDimension(reshape: NodeProto, index: GraphIndex): boolean {
  const shape = index.constant(reshape.input[1] ?? '')
  return shape !== undefined && intAttribute(reshape, 'allowzero', 0) === 0 && Array.from(shape.data, Number).every((dim) => dim !== 0)
}
