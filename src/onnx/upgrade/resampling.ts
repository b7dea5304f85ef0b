// Upsample and Resize: from one implicit way of mapping coordinates (up to version 10) to explicit ones.
// Old nodes are `asymmetric`: output index ÷ scale. Nearest rounds down where an axis grows and up where it
// shrinks (as the runtime and ONNX's own test data for version 10 have it), which no single mode of 11 says.
import { attribute, removeAttribute, setAttribute, stringAttribute } from '../attributes.js'
import { node as makeNode } from '../builder.js'
import type { NodeProto } from '../proto.js'
import type { UpgradeContext, UpgradeRules } from './rule.js'

function resize(input: string, scales: string, output: string, nearestMode: 'floor' | 'ceil'): NodeProto {
  return makeNode('Resize', [input, '', scales], [output], {
    attributes: { mode: 'nearest', coordinate_transformation_mode: 'asymmetric', nearest_mode: nearestMode },
  })
}

/** Grow first, then shrink: an axis that does not take part has scale 1, where both roundings are the identity. */
function nearestBothWays(input: string, scales: string, output: string, context: UpgradeContext): NodeProto[] {
  const [growing, shrinking, grown] = [context.name('growing'), context.name('shrinking'), context.name('grown')]
  const one = context.initializer('one', 'float32', [], [1])
  return [
    makeNode('Max', [scales, one], [growing]),
    makeNode('Min', [scales, one], [shrinking]),
    resize(input, growing, grown, 'floor'),
    resize(grown, shrinking, output, 'ceil'),
  ]
}

export const resampling: UpgradeRules = {
  'Upsample-9': (node, context) => {
    const scales = attribute(node, 'scales')?.floats ?? context.fail('it has no attribute scales')
    removeAttribute(node, 'scales')
    node.input[1] = context.initializer('scales', 'float32', [scales.length], scales)
  },

  'Upsample-10': (node) => {
    node.opType = 'Resize'
  },

  'Resize-11': (node, context) => {
    const [input = '', scales = ''] = node.input
    const [output = ''] = node.output
    if (stringAttribute(node, 'mode', 'nearest') !== 'nearest') {
      setAttribute(node, 'coordinate_transformation_mode', 'asymmetric')
      node.input = [input, '', scales]
      return undefined
    }
    const values = [...(context.constant(scales)?.data ?? [])].map(Number)
    if (values.length > 0 && values.every((scale) => scale >= 1)) return [resize(input, scales, output, 'floor')]
    if (values.length > 0 && values.every((scale) => scale <= 1)) return [resize(input, scales, output, 'ceil')]
    return nearestBothWays(input, scales, output, context)
  },

  // 11 asked for empty tensors where 13 leaves an input out.
  'Resize-13': (node, context) => {
    node.input = node.input.map((name, position) => (position > 0 && context.constant(name)?.dims.includes(0) ? '' : name))
  },
}
