// Gather from a table of int8 rows, one scale a row. Operators of ai.onnx only, so that every device has them,
// and the layout is that of a transposed product, so that an output layer tied to the table can share the codes.
import { node as makeNode, tensorProto, tensorValues } from '../../onnx/builder.js'
import type { NodeProto } from '../../onnx/proto.js'
import { quantizeChannels } from '../quantize/affine.js'
import type { Table } from '../weights/products.js'
import type { DynamicContext } from './context.js'

/** The nodes that gather rows of `table` into the output of `node`. */
export function dynamicEmbedding(node: NodeProto, table: Table, context: DynamicContext): NodeProto[] {
  const { unique } = context
  const [, indices = ''] = node.input
  const [output = ''] = node.output
  const { codes, scales } = codesOfRows(table, context)
  const [rows, float, scale] = [unique(`${output}::q`), unique(`${output}::float`), unique(`${output}::scale`)]
  return [
    makeNode('Gather', [codes, indices], [rows], { attributes: { axis: 0 } }),
    makeNode('Gather', [scales, indices], [scale], { attributes: { axis: 0 } }),
    makeNode('Cast', [rows], [float], { attributes: { to: 1 } }),
    makeNode('Mul', [float, scale], [output], { name: node.name }),
  ]
}

/** Names of [rows, width] codes and [rows, 1] scales, and the scales' values. */
export function codesOfRows(
  { proto, owner, rows, width }: Table,
  { unique, once }: DynamicContext,
): { codes: string; scales: string; values: Float32Array<ArrayBuffer> } {
  return once(proto, 'rows', () => {
    const { codes, scales } = quantizeChannels(tensorValues(proto).data as Float32Array, { dims: [rows, width], axis: 0, limit: 127 })
    const names = { codes: unique(`${proto.name}::rows.q`), scales: unique(`${proto.name}::rows.scale`) }
    owner.initializer.push(tensorProto(names.codes, 'int8', [rows, width], codes), tensorProto(names.scales, 'float32', [rows, 1], scales))
    return { ...names, values: scales }
  })
}
