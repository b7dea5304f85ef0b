// What a search needs to know of a model to choose candidates: where its weights are, by kind of operator. What
// follows from it is candidates.ts's business.
import { intAttribute } from '../../onnx/attributes.js'
import type { NodeProto } from '../../onnx/proto.js'
import { tensorElements } from '../elements.js'
import type { Model } from '../passes/pass.js'
import { scopesOf, storedConstant, type Scope } from '../passes/rewrite-nodes.js'

export type WeightKind = 'convolution' | 'depthwise' | 'product' | 'embedding' | 'recurrent'

/** Weights (elements) by the kind of operator that reads them, subgraphs included; 0 where there are none. */
export type WeightCounts = Readonly<Record<WeightKind, number>>

const WEIGHTS = 1
const TABLE = 0

export function weightCounts(model: Model): WeightCounts {
  const counts: Record<WeightKind, number> = { convolution: 0, depthwise: 0, product: 0, embedding: 0, recurrent: 0 }
  for (const scope of scopesOf(model)) {
    for (const node of scope.graph.node) {
      const kind = kindOf(node)
      if (kind !== undefined) counts[kind] += stored(node, kind === 'embedding' ? TABLE : WEIGHTS, scope)
    }
  }
  return counts
}

function kindOf(node: NodeProto): WeightKind | undefined {
  switch (node.opType) {
    case 'Conv':
    case 'ConvTranspose':
      return intAttribute(node, 'group', 1) > 1 ? 'depthwise' : 'convolution'
    case 'MatMul':
    case 'Gemm':
      return 'product'
    case 'Gather':
      return 'embedding'
    case 'LSTM':
    case 'GRU':
      return 'recurrent'
    default:
      return undefined
  }
}

function stored({ input }: NodeProto, position: number, scope: Scope): number {
  return tensorElements(storedConstant(input[position] ?? '', scope)?.proto.dims)
}
