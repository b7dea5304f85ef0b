// Upgrades where an attribute became an input (or a fixed set of outputs an attribute) and the meaning stayed.
import { floatAttribute, intAttribute, intsAttribute, removeAttribute, setAttribute } from '../attributes.js'
import type { NodeProto } from '../proto.js'
import { scalarLike, setInput, type UpgradeContext, type UpgradeRule, type UpgradeRules } from './rule.js'

const LOWEST = Math.fround(-3.4028234663852886e38)
const HIGHEST = Math.fround(3.4028234663852886e38)

/** Moves a list of integers; an empty list means what no list means. */
function intsToInput(node: NodeProto, name: string, position: number, context: UpgradeContext): void {
  const values = intsAttribute(node, name)
  removeAttribute(node, name)
  if (values && values.length > 0) setInput(node, position, context.initializer(name, 'int64', [values.length], values))
}

const axesToInput: UpgradeRule = (node, context) => intsToInput(node, 'axes', 1, context)

const REDUCE_18 = ['L1', 'L2', 'LogSum', 'LogSumExp', 'Max', 'Mean', 'Min', 'Prod', 'SumSquare']

export const attributesToInputs: UpgradeRules = {
  'Squeeze-13': axesToInput,
  'Unsqueeze-13': axesToInput,
  'ReduceSum-13': axesToInput,
  ...Object.fromEntries(REDUCE_18.map((kind) => [`Reduce${kind}-18`, axesToInput])),

  'Slice-10': (node, context) => {
    intsToInput(node, 'starts', 1, context)
    intsToInput(node, 'ends', 2, context)
    intsToInput(node, 'axes', 3, context)
  },

  'Split-13': (node, context) => intsToInput(node, 'split', 1, context),
  // Without sizes, version 18 asks for the number of equal parts, which used to be the number of outputs.
  'Split-18': (node) => {
    if ((node.input[1] ?? '') === '') setAttribute(node, 'num_outputs', node.output.length)
  },

  'TopK-10': (node, context) => {
    const k = intAttribute(node, 'k') ?? context.fail('it has no attribute k')
    removeAttribute(node, 'k')
    setInput(node, 1, context.initializer('k', 'int64', [1], [k]))
  },

  'Pad-11': (node, context) => {
    const before: NodeProto[] = []
    intsToInput(node, 'pads', 1, context)
    const value = floatAttribute(node, 'value', 0)
    removeAttribute(node, 'value')
    if (value !== 0) setInput(node, 2, scalarLike(node.input[0] as string, 'pad_value', value, context, before))
    return [...before, node]
  },

  'Clip-11': (node, context) => {
    const before: NodeProto[] = []
    const min = floatAttribute(node, 'min', LOWEST)
    const max = floatAttribute(node, 'max', HIGHEST)
    removeAttribute(node, 'min')
    removeAttribute(node, 'max')
    if (min !== LOWEST) setInput(node, 1, scalarLike(node.input[0] as string, 'min', min, context, before))
    if (max !== HIGHEST) setInput(node, 2, scalarLike(node.input[0] as string, 'max', max, context, before))
    return [...before, node]
  },

  'DFT-20': (node, context) => {
    const axis = intAttribute(node, 'axis', 1)
    removeAttribute(node, 'axis')
    setInput(node, 2, context.initializer('axis', 'int64', [], [axis]))
  },
}
