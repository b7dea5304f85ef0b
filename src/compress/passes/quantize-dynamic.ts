// Pass `int8-dynamic`: int8 weights, activations quantized as they come. For MatMul and Gemm only: the
// runtime's integer convolution is several times slower than its float one.
import { Type } from 'typebox'
import type { NodeDecision } from '../../measurements.js'
import { floatAttribute, intAttribute } from '../../onnx/attributes.js'
import { node as makeNode, tensorProto } from '../../onnx/builder.js'
import { GraphIndex } from '../../onnx/graph.js'
import { tensorNames } from '../../onnx/names.js'
import type { NodeProto, TensorProto } from '../../onnx/proto.js'
import { removeDeadNodes } from '../../onnx/rewrite.js'
import { upgradeOpset } from '../../onnx/upgrade/opset.js'
import { quantizeChannels } from '../quantize/affine.js'
import { foldedNodes, labelOf } from './decisions.js'
import type { Model, Pass } from './pass.js'

const parameters = Type.Object(
  {
    exclude: Type.Array(Type.String({ minLength: 1 }), { default: [], description: 'Names of nodes to leave in float' }),
    minWeights: Type.Integer({
      default: 1024,
      minimum: 0,
      description: 'Products with fewer weights stay float: converting their input costs more than int8 saves',
    }),
  },
  { additionalProperties: false },
)

export const int8Dynamic: Pass = {
  name: 'int8-dynamic',
  description: 'int8 weights for MatMul and Gemm, activations quantized at run time; needs no samples',
  parameters,
  calibrates: false,
  sizeOnly: () => false,
  run(source, step) {
    const model = upgradeOpset(source)
    const options = { exclude: new Set(step['exclude'] as string[]), minWeights: Number(step['minWeights']) }
    const decisions = quantizeProducts(model, options)
    removeDeadNodes(model)
    const done = decisions.filter(({ action }) => action === 'done').length
    return Promise.resolve({
      model,
      decisions: [...foldedNodes(source, decisions, 'int8-dynamic'), ...decisions],
      summary: `${done} of ${decisions.length} nodes multiply in int8`,
    })
  },
}

interface Options {
  exclude: ReadonlySet<string>
  minWeights: number
}

/** Replaces products in place; one decision a node. */
function quantizeProducts(model: Model, options: Options): NodeDecision[] {
  const { graph } = model
  const unique = tensorNames(model)
  const index = new GraphIndex(graph)
  const activations = new Map<string, { codes: string; scale: string; zeroPoint: string }>()
  const weights = new Map<string, { codes: string; scales: string }>()
  const nodes: NodeProto[] = []
  const decisions: NodeDecision[] = []
  for (const node of graph.node) {
    const refusal = refusalOf(node, index, options)
    decisions.push({
      node: labelOf(node),
      opType: node.opType,
      pass: 'int8-dynamic',
      action: refusal === undefined ? 'done' : 'skipped',
      reason: refusal ?? 'weights in int8',
    })
    if (refusal !== undefined) {
      nodes.push(node)
      continue
    }
    const [input = '', weight = '', bias = ''] = node.input
    const [output = ''] = node.output
    let activation = activations.get(input)
    if (activation === undefined) {
      activation = { codes: unique(`${input}::q`), scale: unique(`${input}::scale`), zeroPoint: unique(`${input}::zero`) }
      activations.set(input, activation)
      nodes.push(makeNode('DynamicQuantizeLinear', [input], [activation.codes, activation.scale, activation.zeroPoint]))
    }
    const transposed = node.opType === 'Gemm' && intAttribute(node, 'transB', 0) !== 0
    const alpha = node.opType === 'Gemm' ? floatAttribute(node, 'alpha', 1) : 1
    const weightKey = `${weight}::${transposed ? 't' : 'n'}${alpha === 1 ? '' : `*${alpha}`}`
    let quantized = weights.get(weightKey)
    if (quantized === undefined) {
      quantized = { codes: unique(`${weight}::weight.q`), scales: unique(`${weight}::weight.scale`) }
      weights.set(weightKey, quantized)
      graph.initializer.push(...quantizedWeights(quantized, index.constant(weight)!, { transposed, alpha }))
    }
    const product = bias === '' ? output : unique(`${output}::product`)
    const [sum, float, scale] = [unique(`${output}::int`), unique(`${output}::float`), unique(`${output}::scale`)]
    nodes.push(
      makeNode('MatMulInteger', [activation.codes, quantized.codes, activation.zeroPoint], [sum]),
      makeNode('Cast', [sum], [float], { attributes: { to: 1 } }),
      makeNode('Mul', [activation.scale, quantized.scales], [scale]),
      makeNode('Mul', [float, scale], [product], { name: bias === '' ? node.name : product }),
    )
    if (bias !== '') nodes.push(makeNode('Add', [product, bias], [output], { name: node.name }))
  }
  graph.node = nodes
  return decisions
}

function refusalOf(node: NodeProto, index: GraphIndex, { exclude, minWeights }: Options): string | undefined {
  if (node.opType !== 'MatMul' && node.opType !== 'Gemm') return `${node.opType} has no dynamic int8 kernel that pays`
  if (node.domain !== '' && node.domain !== 'ai.onnx') return `operators of ${node.domain} have no int8 kernel here`
  if (exclude.has(labelOf(node))) return 'excluded by the recipe'
  const weight = index.constantProto(node.input[1] ?? '')
  if (weight === undefined) return 'its right operand is not constant'
  if (weight.dataType !== 1) return 'its weights are not float32'
  if (weight.dims.length !== 2) return `its weights have rank ${weight.dims.length}, not 2`
  const count = Number(weight.dims[0]) * Number(weight.dims[1])
  if (count < minWeights) return `${count} weights are fewer than ${minWeights}: int8 would not pay for converting its input`
  if (node.opType === 'MatMul') return undefined
  if (intAttribute(node, 'transA', 0) !== 0) return 'its left operand is transposed'
  if (floatAttribute(node, 'beta', 1) !== 1) return 'it scales its bias'
  return undefined
}

/** [K, N] codes and N scales, of weights stored as [K, N] or transposed. */
function quantizedWeights(
  names: { codes: string; scales: string },
  { dims, data }: { dims: readonly number[]; data: unknown },
  { transposed, alpha }: { transposed: boolean; alpha: number },
): TensorProto[] {
  const [rows, columns] = dims as [number, number]
  const values = data as Float32Array
  const [inner, outer] = transposed ? [columns, rows] : [rows, columns]
  const straight = transposed ? Float32Array.from(values, (_, i) => values[(i % outer) * inner + Math.floor(i / outer)] as number) : values
  const { codes, scales } = quantizeChannels(straight, { dims: [inner, outer], axis: 1, limit: 127 })
  return [
    tensorProto(names.codes, 'int8', [inner, outer], codes),
    tensorProto(
      names.scales,
      'float32',
      [outer],
      scales.map((scale) => Math.fround(scale * alpha)),
    ),
  ]
}
