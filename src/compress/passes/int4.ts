// Pass `int4`: weights of products and embeddings in blocks of 4 or 8 bits, activations as they are. It finds the
// weights, has their codes made one matrix after the other, and puts in place the nodes that read them.
import { Type } from 'typebox'
import { FlyweightError } from '../../errors.js'
import type { RecipeStep } from '../../measurements.js'
import { tensorNames } from '../../onnx/names.js'
import type { NodeProto } from '../../onnx/proto.js'
import { upgradeOpset } from '../../onnx/upgrade/opset.js'
import { blockEmbedding, blockProduct, type BlockContext } from '../weights/block-nodes.js'
import { codesOf, layoutOf, METHODS, type Method, type Weights } from '../weights/block-codes.js'
import type { BlockFormat } from '../weights/blocks.js'
import { once } from '../weights/once.js'
import { constantProduct, constantTable } from '../weights/products.js'
import { foldedNodes } from './decisions.js'
import type { Model, Pass } from './pass.js'
import { importMicrosoftOperators, labelIn, rewriteNodes, scopesOf, type Scope } from './rewrite-nodes.js'

const parameters = Type.Object(
  {
    accuracyLevel: Type.Integer({
      default: 4,
      minimum: 0,
      maximum: 4,
      description: 'What products are computed in: 1 float32, 2 float16, 3 bfloat16, 4 int8 activations (fastest on CPUs), 0 as the runtime likes',
    }),
    bits: Type.Enum([4, 8], { type: 'integer', default: 4, description: 'Bits a weight' }),
    block: Type.Integer({ default: 32, minimum: 16, maximum: 256, description: 'Weights that share a scale: a power of two' }),
    embeddings: Type.Boolean({ default: true, description: 'Store the tables of Gather in blocks too' }),
    exclude: Type.Array(Type.String({ minLength: 1 }), { default: [], description: 'Names of nodes to leave in float' }),
    method: Type.Enum([...METHODS], {
      default: 'rtn',
      description:
        'How codes are chosen: rtn takes the nearest, hqq fits scales and zero points to the weights, gptq lets errors make up for each other on the samples',
    }),
    minWeights: Type.Integer({ default: 1024, minimum: 0, description: 'Nodes with fewer weights stay float' }),
    samples: Type.Integer({ default: 128, minimum: 1, description: 'Most samples that gptq computes with' }),
    symmetric: Type.Boolean({ default: true, description: 'Zero is the middle code; false: each block has a zero point, closer and a little larger' }),
  },
  { additionalProperties: false },
)

export const int4: Pass = {
  name: 'int4',
  description: 'weights of products and embeddings in blocks of 4 (or 8) bits: a sixth of the size',
  parameters,
  sizeOnly: () => true,
  async run(source, step, context) {
    const options = optionsOf(step)
    const model = upgradeOpset(source)
    const found = blockWeights(model, options)
    const blocks: BlockContext = {
      format: options.format,
      accuracyLevel: Number(step['accuracyLevel']),
      unique: tensorNames(model),
      once: once(),
      tables: new Set([...found.values()].flatMap((weights) => (weights.kind === 'table' ? [weights.proto] : []))),
    }
    const codes = await codesOf(model, [...found.values()], { ...blocks, method: step['method'] as Method, samples: Number(step['samples']) }, context)
    const decisions = rewriteNodes(model, 'int4', (node, scope) => {
      const weights = found.get(node) ?? weightsOf(node, scope, options)
      if ('refusal' in weights) return { reason: weights.refusal }
      const own = codes.get(weights.proto)!.get(layoutOf(weights))!
      return weights.kind === 'table'
        ? { nodes: blockEmbedding(node, weights, own.codes, blocks), reason: `rows in ${options.format.bits} bits, ${own.how}` }
        : { nodes: blockProduct(node, weights, own.codes, blocks), reason: `weights in ${options.format.bits} bits, ${own.how}` }
    })
    if (found.size > 0) importMicrosoftOperators(model)
    const summary = `${found.size} of ${decisions.length} nodes have weights of ${options.format.bits} bits in blocks of ${options.format.block}`
    return { model, decisions: [...foldedNodes(source, decisions, 'int4'), ...decisions], summary }
  },
}

interface Options {
  format: BlockFormat
  exclude: ReadonlySet<string>
  minWeights: number
  embeddings: boolean
}

function optionsOf(step: RecipeStep): Options {
  const block = Number(step['block'])
  if (!Number.isInteger(Math.log2(block))) throw new FlyweightError('invalid_recipe', `int4: block is ${block}, expected 16, 32, 64, 128 or 256`)
  return {
    format: { bits: step['bits'] === 8 ? 8 : 4, block, symmetric: step['symmetric'] !== false },
    exclude: new Set(step['exclude'] as string[]),
    minWeights: Number(step['minWeights']),
    embeddings: step['embeddings'] !== false,
  }
}

function blockWeights(model: Model, options: Options): Map<NodeProto, Weights> {
  const found = new Map<NodeProto, Weights>()
  for (const scope of scopesOf(model)) {
    for (const node of scope.graph.node) {
      const weights = weightsOf(node, scope, options)
      if (!('refusal' in weights)) found.set(node, weights)
    }
  }
  return found
}

function weightsOf(node: NodeProto, scope: Scope, { format, exclude, minWeights, embeddings }: Options): Weights | { refusal: string } {
  if (!/^(MatMul|Gemm|Gather)$/.test(node.opType)) return { refusal: `${node.opType} has no kernel for weights in blocks` }
  if (node.domain !== '' && node.domain !== 'ai.onnx') return { refusal: `operators of ${node.domain} have no kernel for weights in blocks` }
  if (exclude.has(labelIn(scope, node))) return { refusal: 'excluded by the recipe' }
  const fewer = (count: number) => `${count} weights are fewer than ${minWeights}: not worth it`
  if (node.opType === 'Gather') {
    const table = constantTable(node, scope)
    if ('refusal' in table) return table
    const { rows, width } = table
    if (!embeddings) return { refusal: 'the recipe leaves embeddings in float' }
    if (rows * width < minWeights) return { refusal: fewer(rows * width) }
    if ((width * format.bits) % 8 !== 0) return { refusal: `its rows of ${width} weights of ${format.bits} bits are not whole bytes` }
    return { kind: 'table', ...table }
  }
  const product = constantProduct(node, scope)
  if ('refusal' in product) return product
  const { inner, outer, proto, owner } = product.matrix
  if (inner * outer < minWeights) return { refusal: fewer(inner * outer) }
  return { kind: 'product', ...product, proto, owner }
}
