// Pass `int8-dynamic`: int8 weights, activations quantized as they come. For products, LSTM and embeddings, in
// subgraphs too; not for convolutions, whose integer kernel is several times slower than the float one.
import { Type } from 'typebox'
import { tensorNames } from '../../onnx/names.js'
import type { NodeProto, TensorProto } from '../../onnx/proto.js'
import { upgradeOpset } from '../../onnx/upgrade/opset.js'
import type { DynamicContext } from '../dynamic/context.js'
import { dynamicEmbedding } from '../dynamic/embedding.js'
import { dynamicLstm, lstmWeights } from '../dynamic/lstm.js'
import { dynamicProduct } from '../dynamic/products.js'
import { prepare } from '../prepare.js'
import { once } from '../weights/once.js'
import { constantProduct, constantTable } from '../weights/products.js'
import { foldedNodes, labelledNodes } from './decisions.js'
import type { Model, Pass } from './pass.js'
import { importMicrosoftOperators, labelIn, rewriteNodes, scopesOf, storedConstant, type NodeChange, type Scope } from './rewrite-nodes.js'

const parameters = Type.Object(
  {
    embeddings: Type.Boolean({ default: true, description: 'Store the tables of Gather in int8 too: smaller, not faster' }),
    exclude: Type.Array(Type.String({ minLength: 1 }), { default: [], description: 'Names of nodes to leave in float' }),
    minWeights: Type.Integer({
      default: 1024,
      minimum: 0,
      description: 'Nodes with fewer weights stay float: converting their input costs more than int8 saves',
    }),
  },
  { additionalProperties: false },
)

export const int8Dynamic: Pass = {
  name: 'int8-dynamic',
  description: 'int8 weights for MatMul, Gemm, LSTM and embeddings, activations quantized at run time; needs no samples',
  parameters,
  sizeOnly: () => false,
  async run(source, step, { workDir }) {
    const model = hasUnfoldedWeights(source) ? await prepare(source, workDir) : upgradeOpset(source)
    const options = { exclude: new Set(step['exclude'] as string[]), minWeights: Number(step['minWeights']), embeddings: step['embeddings'] !== false }
    const context: DynamicContext = { unique: tensorNames(model), once: once(), tables: tablesOf(model, options), activations: new Map() }
    const decisions = rewriteNodes(model, 'int8-dynamic', (node, scope) => dynamicForm(node, scope, { ...context, ...options }))
    if ([...labelledNodes(model.graph)].some(({ node }) => node.domain === 'com.microsoft')) importMicrosoftOperators(model)
    const done = decisions.filter(({ action }) => action === 'done').length
    return {
      model,
      decisions: [...foldedNodes(source, decisions, 'int8-dynamic'), ...decisions],
      summary: `${done} of ${decisions.length} nodes have int8 weights`,
    }
  },
}

interface Options {
  exclude: ReadonlySet<string>
  minWeights: number
  embeddings: boolean
}

function dynamicForm(node: NodeProto, scope: Scope, context: DynamicContext & Options): NodeChange {
  if (node.domain !== '' && node.domain !== 'ai.onnx') return { reason: `operators of ${node.domain} have no int8 kernel here` }
  if (context.exclude.has(labelIn(scope, node))) return { reason: 'excluded by the recipe' }
  const tooFew = (count: number) => (count < context.minWeights ? `${count} weights are fewer than ${context.minWeights}: ` : undefined)
  switch (node.opType) {
    case 'MatMul':
    case 'Gemm': {
      const product = constantProduct(node, scope)
      if ('refusal' in product) return { reason: product.refusal }
      const few = tooFew(product.matrix.inner * product.matrix.outer)
      if (few !== undefined) return { reason: `${few}int8 would not pay for converting its input` }
      return { nodes: dynamicProduct(node, product, scope, context), reason: 'weights in int8' }
    }
    case 'LSTM': {
      const weights = lstmWeights(node, scope)
      if ('refusal' in weights) return { reason: weights.refusal }
      const few = tooFew(weights.count)
      if (few !== undefined) return { reason: `${few}int8 would not pay for converting its input` }
      return { nodes: dynamicLstm(node, weights, context), reason: 'weights in int8' }
    }
    case 'Gather': {
      const table = quantizedTable(node, scope, context)
      return 'refusal' in table ? { reason: table.refusal } : { nodes: dynamicEmbedding(node, table, context), reason: 'rows in int8, one scale each' }
    }
    default:
      return { reason: `${node.opType} has no dynamic int8 kernel that pays` }
  }
}

function quantizedTable(node: NodeProto, scope: Scope, { minWeights, embeddings }: Options): ReturnType<typeof constantTable> {
  const table = constantTable(node, scope)
  if ('refusal' in table) return table
  if (!embeddings) return { refusal: 'the recipe leaves embeddings in float' }
  const count = table.rows * table.width
  return count < minWeights ? { refusal: `${count} weights are fewer than ${minWeights}: int8 would save nothing worth a conversion` } : table
}

/** Tables that will be stored in int8: products tied to them share their codes. */
function tablesOf(model: Model, options: Options): Set<TensorProto> {
  const tables = new Set<TensorProto>()
  for (const scope of scopesOf(model)) {
    for (const node of scope.graph.node) {
      if (node.opType !== 'Gather' || options.exclude.has(labelIn(scope, node))) continue
      const table = quantizedTable(node, scope, options)
      if (!('refusal' in table)) tables.add(table.proto)
    }
  }
  return tables
}

/** Whether an LSTM's weights are computed from constants, as exporters like to write them: the runtime folds that. */
function hasUnfoldedWeights(model: Model): boolean {
  for (const scope of scopesOf(model)) {
    for (const { opType, input } of scope.graph.node) {
      if (opType === 'LSTM' && [input[1], input[2]].some((weight) => storedConstant(weight ?? '', scope) === undefined)) return true
    }
  }
  return false
}
