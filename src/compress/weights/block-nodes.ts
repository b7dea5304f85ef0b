// The nodes that read weights in blocks: MatMulNBits for products, GatherBlockQuantized for embeddings, both of
// com.microsoft (https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md).
import { node as makeNode, tensorProto } from '../../onnx/builder.js'
import type { NodeProto, TensorProto } from '../../onnx/proto.js'
import type { StoredConstant } from '../passes/rewrite-nodes.js'
import { blocksOf, packBlocks, type BlockCodes, type BlockFormat } from './blocks.js'
import type { Once } from './once.js'
import type { Product } from './products.js'

export interface BlockContext {
  format: BlockFormat
  /** What the product is computed in: 0 leaves it to the runtime, 1 float32, 4 int8 activations. */
  accuracyLevel: number
  /** A tensor name that nothing in the model has. */
  unique: (base: string) => string
  once: Once
  /** Tables of embeddings that are stored in blocks: products tied to them read the same bytes. */
  tables: ReadonlySet<TensorProto>
}

/** Whether a product can read the bytes that an embedding stores: its rows are whole blocks of the same weights. */
function sharesTable({ matrix }: Product, { tables, format }: BlockContext): boolean {
  return matrix.transposed && tables.has(matrix.proto) && matrix.inner % format.block === 0
}

/** The nodes that compute `product`, whose matrix is in `codes`, into the output of `node`. */
export function blockProduct(node: NodeProto, product: Product, codes: BlockCodes, context: BlockContext): NodeProto[] {
  const { format, accuracyLevel, unique, once } = context
  const { input, matrix, alpha, bias } = product
  const { proto, owner, inner, outer } = matrix
  const [output = ''] = node.output
  const nodes: NodeProto[] = []
  const blocks = blocksOf(inner, format)
  const blob = (format.block * format.bits) / 8
  const shared = sharesTable(product, context)
  const names = shared ? storedTable(matrix, codes, context) : storedMatrix(matrix, codes, context)
  let { data } = names
  if (shared) {
    const shape = once(proto, 'blocks shape', () => {
      const name = unique(`${proto.name}::blocks.shape`)
      owner.initializer.push(tensorProto(name, 'int64', [3], [outer, blocks, blob]))
      return name
    })
    data = unique(`${names.data}::blocks`)
    nodes.push(makeNode('Reshape', [names.data, shape], [data]))
  }
  const scales =
    alpha === 1
      ? names.scales
      : once(proto, `scales ${matrix.transposed} ${alpha}`, () => {
          const name = unique(`${names.scales}::scaled`)
          const scaled = codes.scales.map((scale) => scale * alpha)
          owner.initializer.push(tensorProto(name, 'float32', [outer, blocks], scaled))
          return name
        })
  const result = bias === '' ? output : unique(`${output}::product`)
  nodes.push(
    makeNode('MatMulNBits', [input, data, scales, ...(names.zeros === undefined ? [] : [names.zeros])], [result], {
      domain: 'com.microsoft',
      name: bias === '' ? node.name : result,
      attributes: { K: inner, N: outer, bits: format.bits, block_size: format.block, accuracy_level: accuracyLevel },
    }),
  )
  if (bias !== '') nodes.push(makeNode('Add', [result, bias], [output], { name: node.name }))
  return nodes
}

/** The node that gathers rows of `table`, which is in `codes`, into the output of `node`. */
export function blockEmbedding(node: NodeProto, table: StoredConstant, codes: BlockCodes, context: BlockContext): NodeProto[] {
  const { format } = context
  const { data, scales, zeros } = storedTable(table, codes, context)
  const [, indices = ''] = node.input
  return [
    makeNode('GatherBlockQuantized', [data, indices, scales, ...(zeros === undefined ? [] : [zeros])], node.output, {
      domain: 'com.microsoft',
      name: node.name,
      attributes: { bits: format.bits, block_size: format.block, gather_axis: 0, quantize_axis: 1 },
    }),
  ]
}

interface StoredBlocks {
  data: string
  scales: string
  zeros: string | undefined
}

function storedMatrix(matrix: Product['matrix'], codes: BlockCodes, context: BlockContext): StoredBlocks {
  const { once, format } = context
  return once(matrix.proto, `matrix ${matrix.transposed}`, () =>
    stored(matrix, codes, context, { padded: true, shape: [codes.rows, blocksOf(codes.width, format), (format.block * format.bits) / 8] }),
  )
}

function storedTable(table: StoredConstant, codes: BlockCodes, context: BlockContext): StoredBlocks {
  const { once, format } = context
  return once(table.proto, 'table', () => stored(table, codes, context, { padded: false, shape: [codes.rows, (codes.width * format.bits) / 8] }))
}

function stored(
  { proto, owner }: StoredConstant,
  codes: BlockCodes,
  { unique, format }: BlockContext,
  { padded, shape }: { padded: boolean; shape: number[] },
): StoredBlocks {
  const packed = packBlocks(codes, format, padded)
  const blocks = blocksOf(codes.width, format)
  const named = (kind: string) => unique(`${proto.name}::blocks.${kind}`)
  const names = { data: named('q'), scales: named('scale'), zeros: packed.zeros && named('zero') }
  owner.initializer.push(tensorProto(names.data, 'uint8', shape, packed.data), tensorProto(names.scales, 'float32', [codes.rows, blocks], codes.scales))
  if (packed.zeros && names.zeros !== undefined) owner.initializer.push(tensorProto(names.zeros, 'uint8', [codes.rows, packed.zeroBytesPerRow], packed.zeros))
  return names
}
