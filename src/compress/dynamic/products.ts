// MatMul and Gemm in int8 with activations quantized as they come: DynamicQuantizeLinear, MatMulInteger, and
// the multiplication with both scales, in the form that the runtime fuses into one kernel.
import { node as makeNode, tensorProto } from '../../onnx/builder.js'
import type { NodeProto } from '../../onnx/proto.js'
import type { Scope } from '../passes/rewrite-nodes.js'
import { quantizeChannels } from '../quantize/affine.js'
import { byInput, type Product } from '../weights/products.js'
import type { ActivationCodes, DynamicContext } from './context.js'
import { codesOfRows } from './embedding.js'

/** The nodes that compute `product` into the output of `node`. */
export function dynamicProduct(node: NodeProto, product: Product, scope: Scope, context: DynamicContext): NodeProto[] {
  const { unique } = context
  const { input, bias } = product
  const [output = ''] = node.output
  const nodes: NodeProto[] = []
  const activation = codesOfActivation(input, scope, context, nodes)
  const weight = codesOfMatrix(product, context, nodes)
  const result = bias === '' ? output : unique(`${output}::product`)
  const [sum, float, scale] = [unique(`${output}::int`), unique(`${output}::float`), unique(`${output}::scale`)]
  nodes.push(
    makeNode('MatMulInteger', [activation.codes, weight.codes, activation.zeroPoint], [sum]),
    makeNode('Cast', [sum], [float], { attributes: { to: 1 } }),
    makeNode('Mul', [activation.scale, weight.scales], [scale]),
    makeNode('Mul', [float, scale], [result], { name: bias === '' ? node.name : result }),
  )
  if (bias !== '') nodes.push(makeNode('Add', [result, bias], [output], { name: node.name }))
  return nodes
}

function codesOfActivation(input: string, scope: Scope, { unique, activations }: DynamicContext, nodes: NodeProto[]): ActivationCodes {
  for (let at: Scope | undefined = scope; at !== undefined; at = at.outer) {
    const known = activations.get(at.graph)?.get(input)
    if (known !== undefined) return known
  }
  const made = { codes: unique(`${input}::q`), scale: unique(`${input}::scale`), zeroPoint: unique(`${input}::zero`) }
  nodes.push(makeNode('DynamicQuantizeLinear', [input], [made.codes, made.scale, made.zeroPoint]))
  const local = activations.get(scope.graph) ?? new Map<string, ActivationCodes>()
  activations.set(scope.graph, local.set(input, made))
  return made
}

/** Names of [inner, outer] codes and [outer] scales. */
function codesOfMatrix({ matrix, alpha }: Product, context: DynamicContext, nodes: NodeProto[]): { codes: string; scales: string } {
  const { unique, once, tables } = context
  const { proto, owner, transposed, inner, outer } = matrix
  const stored = (scales: Float32Array<ArrayBuffer>): string => {
    const name = unique(`${proto.name}::weight.scale`)
    owner.initializer.push(tensorProto(name, 'float32', [outer], alpha === 1 ? scales : scales.map((scale) => scale * alpha)))
    return name
  }
  if (transposed && tables.has(proto)) {
    // Its rows are an embedding's too: one set of codes serves both, which the runtime transposes once, at load.
    const rows = codesOfRows({ proto, owner, rows: outer, width: inner }, context)
    const across = unique(`${proto.name}::weight.q`)
    nodes.push(makeNode('Transpose', [rows.codes], [across], { attributes: { perm: [1, 0] } }))
    return { codes: across, scales: once(proto, `scales ${alpha}`, () => stored(rows.values)) }
  }
  return once(proto, `product${transposed ? ' transposed' : ''} ${alpha}`, () => {
    const { codes, scales } = quantizeChannels(byInput(matrix), { dims: [inner, outer], axis: 1, limit: 127 })
    const name = unique(`${proto.name}::weight.q`)
    owner.initializer.push(tensorProto(name, 'int8', [inner, outer], codes))
    return { codes: name, scales: stored(scales) }
  })
}
