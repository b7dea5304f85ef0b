// Upgrades where an operator came to mean something else, or lost outputs only training reads.
import { floatAttribute, intAttribute, removeAttribute, setAttribute, stringAttribute } from '../attributes.js'
import { node as makeNode } from '../builder.js'
import type { NodeProto } from '../proto.js'
import { setInput, type UpgradeContext, type UpgradeRule, type UpgradeRules } from './rule.js'

/** Up to version 12 the input is seen as a matrix, cut before `axis`, and each row is normalized; from 13 one axis is. */
const oneAxisSoftmax: UpgradeRule = (node, context) => {
  const axis = intAttribute(node, 'axis', 1)
  const { rank } = context.fact(node.input[0])
  setAttribute(node, 'axis', -1)
  if (axis === -1 || (rank !== undefined && axis === rank - 1)) return undefined
  const [input = '', output = ''] = [node.input[0], node.output[0]]
  const [shape, matrix, rows] = [context.name('shape'), context.name('matrix'), context.name('rows')]
  node.input[0] = matrix
  node.output[0] = rows
  return [
    makeNode('Shape', [input], [shape]),
    makeNode('Flatten', [input], [matrix], { attributes: { axis } }),
    node,
    makeNode('Reshape', [rows, shape], [output], { attributes: { allowzero: 1 } }),
  ]
}

function dropUnusedOutputs(node: NodeProto, kept: number, context: UpgradeContext): void {
  const used = node.output.slice(kept).find((name) => context.isUsed(name))
  if (used !== undefined) context.fail(`its output "${used}", which only training defines, is used`)
  node.output.length = Math.min(node.output.length, kept)
}

export const semantics: UpgradeRules = {
  'Softmax-13': oneAxisSoftmax,
  'LogSoftmax-13': oneAxisSoftmax,
  'Hardmax-13': oneAxisSoftmax,

  // The mask's type changed in 10 and its inference value in 12: neither can be kept, and inference needs none.
  'Dropout-10': (node, context) => dropUnusedOutputs(node, 1, context),
  'Dropout-12': (node, context) => {
    dropUnusedOutputs(node, 1, context)
    const ratio = floatAttribute(node, 'ratio', 0.5)
    removeAttribute(node, 'ratio')
    setInput(node, 1, context.initializer('ratio', 'float32', [], [ratio]))
  },

  'BatchNormalization-9': (node, context) => {
    if (intAttribute(node, 'spatial', 1) === 0) context.fail('spatial=0 (statistics per activation) was dropped from ONNX in version 9')
    removeAttribute(node, 'spatial')
  },
  'BatchNormalization-14': (node, context) => dropUnusedOutputs(node, 1, context),

  'Scatter-11': (node) => {
    node.opType = 'ScatterElements'
  },

  'RoiAlign-16': (node) => setAttribute(node, 'coordinate_transformation_mode', 'output_half_pixel'),

  'GridSample-20': (node) => {
    const mode = stringAttribute(node, 'mode', 'bilinear')
    setAttribute(node, 'mode', { bilinear: 'linear', bicubic: 'cubic' }[mode] ?? mode)
  },

  // Scale and bias go from one value a group to one a channel: each repeated channels ÷ groups times.
  'GroupNormalization-21': (node, context) => {
    const groups = intAttribute(node, 'num_groups') ?? context.fail('it has no attribute num_groups')
    const [channels, share, repeats] = [context.name('channels'), context.name('share'), context.name('repeats')]
    const one = context.initializer('one', 'int64', [1], [1])
    const before = [
      makeNode('Shape', [node.input[0] as string], [channels], { attributes: { start: 1, end: 2 } }),
      makeNode('Div', [channels, context.initializer('groups', 'int64', [1], [groups])], [share]),
      makeNode('Concat', [one, share], [repeats], { attributes: { axis: 0 } }),
    ]
    const column = context.initializer('column', 'int64', [2], [-1, 1])
    const flat = context.initializer('flat', 'int64', [1], [-1])
    for (const position of [1, 2]) {
      const [a, b, c] = [context.name('column'), context.name('repeated'), context.name('channelwise')]
      before.push(
        makeNode('Reshape', [node.input[position] as string, column], [a]),
        makeNode('Expand', [a, repeats], [b]),
        makeNode('Reshape', [b, flat], [c]),
      )
      node.input[position] = c
    }
    const { type } = context.fact(node.input[0])
    if (type !== undefined) setAttribute(node, 'stash_type', type)
    return [...before, node]
  },
}
