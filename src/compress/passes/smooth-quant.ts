// Pass `smooth-quant`: evens out activations before int8. Channels of a product's input are divided by scales that
// its weights are multiplied by, so that outliers weigh less on the range of the whole tensor; nothing is added to the
// graph, for what computes the input takes the scales up. After Xiao et al., "SmoothQuant" (arXiv:2211.10438).
import { Type } from 'typebox'
import type { NodeDecision } from '../../measurements.js'
import { intAttribute } from '../../onnx/attributes.js'
import { tensorProto } from '../../onnx/builder.js'
import { GraphIndex } from '../../onnx/graph.js'
import { tensorNames } from '../../onnx/names.js'
import type { NodeProto } from '../../onnx/proto.js'
import { removeDeadNodes } from '../../onnx/rewrite.js'
import { channelMagnitudes } from '../calibration/channel-magnitudes.js'
import { prepare } from '../prepare.js'
import { absorption, floatConstant, type Absorption, type ConstantEdit } from '../quantize/absorption.js'
import { foldedNodes, labelOf } from './decisions.js'
import type { Model, Pass } from './pass.js'

const parameters = Type.Object(
  {
    alpha: Type.Number({
      default: 0.5,
      minimum: 0,
      maximum: 1,
      description: 'How much of the unevenness moves from activations (0: none) to weights (1: all)',
    }),
    exclude: Type.Array(Type.String({ minLength: 1 }), { default: [], description: 'Names of nodes to leave as they are' }),
  },
  { additionalProperties: false },
)

/** Products that read one tensor, and how that takes scales up. */
interface Group {
  tensor: string
  width: number
  products: readonly NodeProto[]
  absorbed: Absorption
}

export const smoothQuant: Pass = {
  name: 'smooth-quant',
  description: 'activations of products evened out across channels, as a preparation of int8-static',
  parameters,
  sizeOnly: () => false,
  async run(source, step, context) {
    const model = await prepare(source, context.workDir)
    const { groups, refusals } = findGroups(model, new Set(step['exclude'] as string[]))
    const magnitudes = await channelMagnitudes(model, groups, context)
    const unique = tensorNames(model)
    const edit = (change: ConstantEdit, index: GraphIndex) => {
      const { values, dims } = floatConstant(change.node.input[change.position], index)!
      const name = unique(`${change.node.input[change.position]}::smooth`)
      model.graph.initializer.push(
        tensorProto(
          name,
          'float32',
          dims,
          Float32Array.from(values, (value, i) => value * change.factor(i)),
        ),
      )
      change.node.input[change.position] = name
    }
    const reasons = new Map<NodeProto, string>()
    for (const group of groups) {
      // Anew, because the weights that one group multiplied may be those that the next divides.
      const index = new GraphIndex(model.graph)
      const scales = smoothingScales(group, magnitudes.get(group.tensor)!, { alpha: Number(step['alpha']), index })
      for (const change of group.absorbed.edits(scales)) edit(change, index)
      for (const product of group.products) edit({ node: product, position: 1, factor: weightFactor(product, scales, index) }, index)
      for (const node of group.absorbed.nodes) reasons.set(node, `its output is divided by the scales of ${group.products.map(labelOf).join(', ')}`)
    }
    // What a product is told outweighs that its output is divided too.
    for (const { products, absorbed } of groups)
      for (const product of products) reasons.set(product, `its weights take the scales that ${absorbed.nodes.map(labelOf).join(', ')} divides by`)
    const decisions = model.graph.node.map((node): NodeDecision => {
      const done = reasons.get(node)
      const reason = done ?? refusals.get(node) ?? 'it is no product with constant weights'
      return { node: labelOf(node), opType: node.opType, pass: 'smooth-quant', action: done === undefined ? 'skipped' : 'done', reason }
    })
    removeDeadNodes(model)
    const products = groups.reduce((sum, group) => sum + group.products.length, 0)
    const summary = `inputs of ${products} products evened out, alpha ${String(step['alpha'])}`
    return { model, decisions: [...foldedNodes(source, decisions, 'smooth-quant'), ...decisions], summary }
  },
}

function findGroups({ graph }: Model, exclude: ReadonlySet<string>): { groups: Group[]; refusals: Map<NodeProto, string> } {
  const index = new GraphIndex(graph)
  const refusals = new Map<NodeProto, string>()
  const groups: Group[] = []
  const seen = new Set<string>()
  for (const node of graph.node) {
    const width = productWidth(node, index)
    const [tensor = ''] = node.input
    if (width === undefined || seen.has(tensor)) continue
    seen.add(tensor)
    const readers = index.consumers(tensor)
    const refuse = (reason: string) => {
      for (const reader of readers) if (productWidth(reader, index) !== undefined) refusals.set(reader, reason)
    }
    const absorbed = absorption(tensor, width, index)
    if (index.isOutput(tensor)) refuse('its input is an output of the model')
    else if (readers.some((reader) => exclude.has(labelOf(reader)))) refuse('excluded by the recipe, or reads what an excluded node reads')
    else if (readers.some((reader) => productWidth(reader, index) === undefined)) refuse('its input has another reader that cannot take the scales up')
    else if (absorbed === undefined) refuse('what computes its input cannot divide it without a loss or another node')
    else if (absorbed.nodes.some((one) => exclude.has(labelOf(one)))) refuse('what computes its input is excluded by the recipe')
    else groups.push({ tensor, width, products: readers, absorbed })
  }
  return { groups, refusals }
}

/** Channels of its input, for a MatMul or Gemm with constant weights of rank 2 that reads nothing else from its input. */
function productWidth(node: NodeProto, index: GraphIndex): number | undefined {
  if (!/^(MatMul|Gemm)$/.test(node.opType) || node.domain !== '' || intAttribute(node, 'transA', 0) !== 0) return undefined
  const dims = floatConstant(node.input[1], index)?.dims
  if (dims?.length !== 2 || node.input[2] === node.input[0] || index.constantProto(node.input[0] ?? '') !== undefined) return undefined
  return dims[isTransposed(node) ? 1 : 0]
}

/** s = max|X|^α ÷ max|W|^(1 − α), over all products of the group; 1 where a channel is all zero on either side. */
function smoothingScales({ products, width }: Group, inputs: Float32Array, { alpha, index }: { alpha: number; index: GraphIndex }): Float64Array {
  const weights = new Float64Array(width)
  for (const product of products) {
    const { values, dims } = floatConstant(product.input[1], index)!
    values.forEach((value, i) => {
      const channel = channelOf(product, dims, i)
      weights[channel] = Math.max(weights[channel]!, Math.abs(value))
    })
  }
  return Float64Array.from(weights, (weight, channel) => {
    const scale = inputs[channel]! ** alpha / weight ** (1 - alpha)
    return inputs[channel]! > 0 && weight > 0 && scale > 0 && Number.isFinite(scale) ? scale : 1
  })
}

function weightFactor(product: NodeProto, scales: Float64Array, index: GraphIndex): (i: number) => number {
  const { dims } = floatConstant(product.input[1], index)!
  return (i) => scales[channelOf(product, dims, i)]!
}

/** The input channel that an element of the weights belongs to. */
function channelOf(product: NodeProto, dims: readonly number[], element: number): number {
  return isTransposed(product) ? element % dims[1]! : Math.floor(element / dims[1]!)
}

function isTransposed(node: NodeProto): boolean {
  return node.opType === 'Gemm' && intAttribute(node, 'transB', 0) !== 0
}
