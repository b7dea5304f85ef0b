// Bounds a model must keep before anything walks or runs it. They stop files made to exhaust memory
// or stack; whether the runtime accepts the model is found out in probation.
import { FlyweightError } from '../errors.js'
import { dtypes } from '../tensor/tensor.js'
import { subgraphs } from './attributes.js'
import { dtypeOf } from './builder.js'
import { allTensors } from './graph.js'
import { DataLocation, type GraphProto, type ModelProto, type NodeProto, type TensorProto } from './proto.js'

/** Well above the largest public models (GPT-2 XL has about 20 000 nodes after export), well below trouble. */
export interface Limits {
  nodes: number
  tensors: number
  attributesPerNode: number
  /** Inputs, outputs or elements of one attribute's list. */
  listLength: number
  nameLength: number
  subgraphDepth: number
  tensorRank: number
}

const DEFAULT_LIMITS: Limits = {
  nodes: 200_000,
  tensors: 200_000,
  attributesPerNode: 256,
  listLength: 1_000_000,
  nameLength: 4096,
  subgraphDepth: 16,
  tensorRank: 64,
}

const DOMAINS = new Set(['', 'ai.onnx', 'ai.onnx.ml', 'com.microsoft'])

/**
 * Checks a decoded model against the limits, and that it needs no custom operators.
 * @throws FlyweightError `invalid_model` naming the first violation.
 */
export function checkLimits(model: ModelProto & { graph: GraphProto }, overrides: Partial<Limits> = {}): void {
  const limits = { ...DEFAULT_LIMITS, ...overrides }
  const walk = new Walk(limits, new Set([...DOMAINS, ...model.functions.map(({ domain }) => domain)]))
  walk.graph(model.graph, 0)
  for (const definition of model.functions) walk.nodes(definition.node, 0)
  for (const { initialization, algorithm } of model.trainingInfo) {
    if (initialization) walk.graph(initialization, 0)
    if (algorithm) walk.graph(algorithm, 0)
  }
  let tensors = 0
  for (const tensor of allTensors(model)) {
    if (++tensors > limits.tensors) fail(`the model has more than ${limits.tensors} stored tensors`)
    checkTensor(tensor, limits)
  }
}

class Walk {
  readonly #limits: Limits
  readonly #domains: ReadonlySet<string>
  #nodes = 0

  constructor(limits: Limits, domains: ReadonlySet<string>) {
    this.#limits = limits
    this.#domains = domains
  }

  graph(graph: GraphProto, depth: number): void {
    const { subgraphDepth, tensors, listLength } = this.#limits
    if (depth > subgraphDepth) fail(`subgraphs are nested more than ${subgraphDepth} deep`)
    if (graph.initializer.length > tensors) fail(`a graph has ${graph.initializer.length} initializers, at most ${tensors} are allowed`)
    if (graph.input.length + graph.output.length > listLength) fail(`a graph has more than ${listLength} inputs and outputs`)
    this.nodes(graph.node, depth)
  }

  nodes(nodes: readonly NodeProto[], depth: number): void {
    this.#nodes += nodes.length
    if (this.#nodes > this.#limits.nodes) fail(`the model has more than ${this.#limits.nodes} nodes`)
    for (const node of nodes) {
      this.#node(node)
      for (const inner of subgraphs(node)) this.graph(inner, depth + 1)
    }
  }

  #node(node: NodeProto): void {
    const { attributesPerNode, listLength, nameLength } = this.#limits
    const names = [node.name, node.opType, node.domain, ...node.input, ...node.output]
    if (names.some((name) => name.length > nameLength)) fail(`a node has a name longer than ${nameLength} characters`)
    const label = `node "${node.name}" (${node.opType})`
    if (node.opType === '') fail(`node "${node.name}" names no operator`)
    if (!this.#domains.has(node.domain)) fail(`${label} is from the domain "${node.domain}": custom operators are not supported`)
    if (node.attribute.length > attributesPerNode) fail(`${label} has ${node.attribute.length} attributes, at most ${attributesPerNode} are allowed`)
    const lists = [node.input, node.output, ...node.attribute.flatMap(({ ints, floats, strings }) => [ints, floats, strings])]
    if (lists.some((list) => list.length > listLength)) fail(`${label} has a list longer than ${listLength}`)
  }
}

function checkTensor(tensor: TensorProto, limits: Limits): void {
  const label = `tensor "${tensor.name.slice(0, limits.nameLength)}"`
  if (tensor.dims.length > limits.tensorRank) fail(`${label} has ${tensor.dims.length} dimensions, at most ${limits.tensorRank} are allowed`)
  if (tensor.dims.some((dim) => dim < 0n)) fail(`${label} has a negative dimension in [${tensor.dims.join(', ')}]`)
  const count = tensor.dims.reduce((product, dim) => product * dim, 1n)
  if (count > BigInt(Number.MAX_SAFE_INTEGER)) fail(`${label} has dims [${tensor.dims.join(', ')}], more elements than can be held`)
  const dtype = dtypeOf(tensor.dataType)
  if (dtype === undefined || dtype === 'string' || tensor.dataLocation === DataLocation.EXTERNAL || tensor.rawData.length === 0) return
  const expected = count * BigInt(dtypes[dtype].bytes)
  if (BigInt(tensor.rawData.length) !== expected) {
    fail(`${label} has ${tensor.rawData.length} bytes of data, its dims [${tensor.dims.join(', ')}] need ${expected}`)
  }
}

function fail(detail: string): never {
  throw new FlyweightError('invalid_model', detail)
}
