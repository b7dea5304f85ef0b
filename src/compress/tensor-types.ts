// The element types of a model's tensors, subgraphs included. A model need not say them for those between its nodes,
// and the runtime leaves them out of what it saves, so the runtime's own type inference is asked, graph by graph.
import { subgraphs } from '../onnx/attributes.js'
import { dtypeOf } from '../onnx/builder.js'
import { capturedTensors } from '../onnx/graph.js'
import {
  create,
  GraphProtoSchema,
  ModelProtoSchema,
  TypeProto_TensorSchema,
  TypeProtoSchema,
  ValueInfoProtoSchema,
  type GraphProto,
  type NodeProto,
  type TensorProto,
  type ValueInfoProto,
} from '../onnx/proto.js'
import { dtypes, type DType } from '../tensor/tensor.js'
import { openModel } from './open-model.js'
import { ownedGraphs } from './passes/decisions.js'
import type { Model } from './passes/pass.js'

/** Types of the tensors that a graph itself has: inputs, constants, and what its nodes write. */
export type GraphTypes = ReadonlyMap<string, DType>

interface Scope {
  types: GraphTypes
  constants: ReadonlyMap<string, TensorProto>
  outer: Scope | undefined
}

/** Bytes of a constant from which on only its type is told to the runtime: no operator's output type depends on it. */
const LARGE_CONSTANT = 1024

/**
 * The types in every graph, by what the labels of its nodes begin with: '' is the outermost. A subgraph is missing where
 * the runtime cannot tell: it reads a sequence, say.
 * @throws what the runtime throws for a model it cannot load
 */
export async function tensorTypes(model: Model): Promise<Map<string, GraphTypes>> {
  const found = new Map<string, GraphTypes>()
  const visit = async (graph: GraphProto, prefix: string, types: GraphTypes, outer: Scope | undefined): Promise<void> => {
    found.set(prefix, types)
    const scope = { types, constants: constantsOf(graph), outer }
    for (const node of graph.node) {
      for (const inner of ownedGraphs(node, prefix)) {
        const innerTypes = await typesIn(model, standalone(inner.graph, scope)).catch(() => undefined)
        if (innerTypes !== undefined) await visit(inner.graph, inner.prefix, ownTypes(inner.graph, innerTypes), scope)
      }
    }
  }
  await visit(model.graph, '', ownTypes(model.graph, await typesIn(model, model.graph)), undefined)
  return found
}

/** A subgraph as a graph of its own: what it captures becomes input or constant. */
function standalone(graph: GraphProto, scope: Scope): GraphProto {
  const input = [...graph.input]
  const initializer: TensorProto[] = []
  const own = [...constantsOf(graph).values()]
  for (const name of capturedTensors(graph)) {
    const constant = lookUp(scope, ({ constants }) => constants.get(name))
    if (constant !== undefined && constant.rawData.length < LARGE_CONSTANT) initializer.push(constant)
    else {
      const type = lookUp(scope, ({ types }) => types.get(name))
      if (type !== undefined) input.push(typeOnly(name, dtypes[type].onnx))
    }
  }
  for (const tensor of own) {
    if (tensor.rawData.length < LARGE_CONSTANT) initializer.push(tensor)
    else input.push(typeOnly(tensor.name, tensor.dataType))
  }
  return create(GraphProtoSchema, { name: graph.name, node: graph.node, input, initializer })
}

/** Types of all tensors of a graph that can stand alone. */
async function typesIn(model: Model, graph: GraphProto): Promise<Map<string, DType>> {
  const names = graph.node.flatMap(tensorsOf)
  const output = names.map((name) => create(ValueInfoProtoSchema, { name }))
  const session = await openModel(create(ModelProtoSchema, { ...model, graph: create(GraphProtoSchema, { ...graph, output }) }), { optimization: 'disabled' })
  await session.release()
  const constants = graph.initializer.flatMap(({ name, dataType }): [string, DType][] => {
    const type = dtypeOf(dataType)
    return type === undefined ? [] : [[name, type]]
  })
  return new Map([...constants, ...[...session.inputs, ...session.outputs].map(({ name, dtype }): [string, DType] => [name, dtype])])
}

function ownTypes(graph: GraphProto, types: ReadonlyMap<string, DType>): GraphTypes {
  const own = [...graph.input, ...graph.initializer].map(({ name }) => name)
  return new Map([...own, ...graph.node.flatMap(({ output }) => output)].flatMap((name) => (types.has(name) ? [[name, types.get(name)!] as const] : [])))
}

function constantsOf(graph: GraphProto): Map<string, TensorProto> {
  return new Map(graph.initializer.map((tensor) => [tensor.name, tensor]))
}

function lookUp<T>(scope: Scope, get: (scope: Scope) => T | undefined): T | undefined {
  for (let at: Scope | undefined = scope; at !== undefined; at = at.outer) {
    const found = get(at)
    if (found !== undefined) return found
  }
  return undefined
}

function typeOnly(name: string, elemType: number): ValueInfoProto {
  const tensorType = create(TypeProto_TensorSchema, { elemType })
  return create(ValueInfoProtoSchema, { name, type: create(TypeProtoSchema, { value: { case: 'tensorType', value: tensorType } }) })
}

/** The outputs of a node but for sequences and optionals, which only some operators write. */
export function tensorsOf(node: NodeProto): string[] {
  return node.output.filter((name, position) => name !== '' && isTensor(node, position))
}

/** The last outputs of a node with subgraphs are theirs. */
function isTensor(node: NodeProto, position: number): boolean {
  if (/^(Sequence(Construct|Empty|Erase|Insert|Map)|SplitToSequence|Optional)$/.test(node.opType)) return false
  const inner = subgraphs(node)[0]?.output.at(position - node.output.length)
  const kind = inner?.type?.value.case
  return kind === undefined || kind === 'tensorType'
}
