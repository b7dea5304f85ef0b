// Rewrites that bring a prepared float graph into the form that quantizes best: what follows a Conv folded
// into it, chains of scalar arithmetic in normal form, hard-sigmoid and hard-swish by HardSigmoid. Every node
// that goes is one rounding to 8 bits less. Means the same but for float32's rounding; plan.ts decides what becomes int8.
import { node } from '../../onnx/builder.js'
import type { GraphIndex } from '../../onnx/graph.js'
import { shallowCopy, type NodeProto } from '../../onnx/proto.js'
import { rule, type RewriteRule } from '../../onnx/rewrite.js'
import { foldConvolutions } from './fold-convolutions.js'
import { isOne, scalarAffine, scalarConstant, scalarNodes, type ScalarAffine } from './scalar-nodes.js'

export const canonicalRules: readonly RewriteRule[] = [
  rule<readonly NodeProto[]>({
    name: 'identity removed',
    opType: ['Identity', 'Mul', 'Add', 'Sub', 'Div'],
    match: (candidate, index) => {
      const affine = scalarAffine(candidate, index)
      if (candidate.opType !== 'Identity' && !(affine !== undefined && isOne(affine.scale) && affine.shift === 0)) return undefined
      const [output = ''] = candidate.output
      const readers = index.consumers(output)
      // A subgraph that captures the tensor would have to be changed inside.
      return index.isOutput(output) || readers.some(({ input }) => !input.includes(output)) ? undefined : readers
    },
    apply: (readers, { node: identity, index }) => {
      const source = scalarAffine(identity, index)?.input ?? identity.input[0]!
      return { nodes: readers.map((reader) => reading(reader, identity.output[0]!, source)), remove: [identity, ...readers] }
    },
  }),
  foldConvolutions,
  rule<{ first: NodeProto; affine: ScalarAffine }>({
    name: 'scalar arithmetic merged',
    opType: ['Mul', 'Add', 'Sub', 'Div'],
    match: (candidate, index) => {
      const outer = scalarAffine(candidate, index)
      const first = outer && soleProducer(outer.input, index)
      const inner = first && scalarAffine(first, index)
      if (inner === undefined || (first?.opType === 'Mul' && candidate.opType === 'Add')) return undefined
      return { first: first!, affine: { input: inner.input, scale: inner.scale * outer!.scale, shift: inner.shift * outer!.scale + outer!.shift } }
    },
    apply: ({ first, affine }, { node: second, uniqueName }) => ({ ...scalarNodes(affine, second.output[0]!, uniqueName), remove: [first, second] }),
  }),
  // clip(x + b, 0, h) = h · HardSigmoid(x; 1 ÷ h, b ÷ h), which saturates for free in int8.
  rule<{ shifted: NodeProto; input: string; shift: number; high: number }>({
    name: 'hard-sigmoid recognised',
    opType: 'Clip',
    match: (candidate, index) => {
      const [low, high] = [scalarConstant(candidate.input[1], index), scalarConstant(candidate.input[2], index)]
      const shifted = soleProducer(candidate.input[0]!, index)
      const affine = shifted && scalarAffine(shifted, index)
      if (low !== 0 || high === undefined || affine?.scale !== 1 || affine.shift <= 0 || affine.shift >= high) return undefined
      return { shifted: shifted!, input: affine.input, shift: affine.shift, high }
    },
    apply: ({ shifted, input, shift, high }, { node: clip, uniqueName }) => {
      const unit = uniqueName(`${clip.output[0]}::unit`)
      const scaling = scalarNodes({ input: unit, scale: high, shift: 0 }, clip.output[0]!, uniqueName)
      return { ...scaling, nodes: [hardSigmoid(input, unit, 1 / high, shift / high), ...(scaling.nodes ?? [])], remove: [shifted, clip] }
    },
  }),
  rule<string>({
    name: 'hard-swish spelled out',
    opType: 'HardSwish',
    match: (candidate) => candidate.input[0],
    apply: (input, { node: swish, uniqueName }) => {
      const unit = uniqueName(`${swish.output[0]}::unit`)
      return { nodes: [hardSigmoid(input, unit, 1 / 6, 0.5), node('Mul', [input, unit], [swish.output[0]!])] }
    },
  }),
  // x · (c · y) = c · (x · y): puts the scale where it can merge with what follows.
  rule<{ scaling: NodeProto; affine: ScalarAffine; other: string }>({
    name: 'scale moved behind a product',
    opType: 'Mul',
    match: (candidate, index) => {
      for (const [position, name] of candidate.input.entries()) {
        const scaling = soleProducer(name, index)
        const affine = scaling && scalarAffine(scaling, index)
        const other = candidate.input[1 - position]!
        if (scaling && affine?.shift === 0 && other !== name && index.constantProto(other) === undefined) return { scaling, affine, other }
      }
      return undefined
    },
    apply: ({ scaling, affine, other }, { node: product, uniqueName }) => {
      const unscaled = uniqueName(`${product.output[0]}::unscaled`)
      const behind = scalarNodes({ input: unscaled, scale: affine.scale, shift: 0 }, product.output[0]!, uniqueName)
      return { ...behind, nodes: [node('Mul', [other, affine.input], [unscaled]), ...(behind.nodes ?? [])], remove: [scaling, product] }
    },
  }),
]

function hardSigmoid(input: string, output: string, alpha: number, beta: number): NodeProto {
  return node('HardSigmoid', [input], [output], { attributes: { alpha: { float: alpha }, beta: { float: beta } } })
}

/** The node that writes `name`, if `name` has one reader and is no output of the graph. */
function soleProducer(name: string, index: GraphIndex): NodeProto | undefined {
  return index.isOutput(name) || index.consumers(name).length !== 1 ? undefined : index.producer(name)
}

function reading(reader: NodeProto, before: string, after: string): NodeProto {
  const copy = shallowCopy(reader)
  copy.input = reader.input.map((name) => (name === before ? after : name))
  return copy
}
