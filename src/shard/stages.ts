// Cuts a model into stages, each a model of its own. Where to cut is partition.ts's; who hands the values from stage
// to stage is the executor's: a stage takes what it reads, wherever that was computed, and passes nothing on.
import { FlyweightError } from '../errors.js'
import { usedTensors } from '../onnx/graph.js'
import { shallowCopy, type GraphProto, type ModelProto, type NodeProto, type ValueInfoProto } from '../onnx/proto.js'
import { constantsFor, type Dataflow } from './dataflow.js'

export interface Stage {
  /** Shares nodes and weights with the model that was cut. */
  model: ModelProto & { graph: GraphProto }
  /** What it reads: inputs of the whole, and outputs of stages before it. */
  inputs: readonly string[]
  /** What stages after it read, and outputs of the whole. */
  outputs: readonly string[]
}

export interface CutOptions {
  flow: Dataflow
  /** The stage of each of the flow's nodes, from 0 on. */
  assignment: readonly number[]
  /** Type and shape of a tensor that passes between stages; undefined for what is no tensor. */
  typeOf(tensor: string): ValueInfoProto | undefined
}

/**
 * Stages in order. An output of the whole that no node computes is written by the last stage where it is a constant, and
 * by none where it is an input. `model` is left as it was.
 * @throws FlyweightError `invalid_plan` when a stage is empty, needs what a later one computes, or what crosses is no tensor
 */
export function cutStages(model: ModelProto & { graph: GraphProto }, options: CutOptions): Stage[] {
  const { flow, assignment } = options
  const count = Math.max(...assignment) + 1
  const empty = Array.from({ length: count }, (_, stage) => stage).find((stage) => !assignment.includes(stage))
  if (empty !== undefined) throw new FlyweightError('invalid_plan', `stage ${empty} has no nodes`)
  checkForward(flow, assignment)
  return Array.from({ length: count }, (_, stage) => {
    const nodes = flow.nodes.filter((_, index) => assignment[index] === stage)
    const own = (index: number | undefined) => index !== undefined && assignment[index] === stage
    const inputs = flow.values.filter(({ producer, consumers }) => !own(producer) && consumers.some(own)).map(({ name }) => name)
    const outputs = flow.values.filter((value) => own(value.producer) && (value.output || value.consumers.some((consumer) => !own(consumer))))
    const constantOutputs = stage === count - 1 ? model.graph.output.filter(({ name }) => flow.constants.has(name)) : []
    return stageOf(model, options, { stage, nodes, inputs, outputs: [...outputs, ...constantOutputs].map(({ name }) => name) })
  })
}

/** @throws FlyweightError `invalid_plan` naming the first value that would have to go back */
export function checkForward({ nodes, values }: Dataflow, assignment: readonly number[]): void {
  for (const { name, producer, consumers } of values) {
    if (producer === undefined) continue
    const [from, back] = [assignment[producer] as number, consumers.find((consumer) => (assignment[consumer] as number) < (assignment[producer] as number))]
    if (back === undefined) continue
    const [writer, reader] = [labelOf(nodes[producer] as NodeProto), labelOf(nodes[back] as NodeProto)]
    throw new FlyweightError(
      'invalid_plan',
      `"${name}" would go backward: ${writer} in stage ${from} writes it, ${reader} in stage ${assignment[back]} reads it`,
    )
  }
}

/** How a node is named to people: by what it writes where it has no name. */
export function labelOf({ name, opType, output }: NodeProto): string {
  return `node "${name || (output[0] ?? '')}" (${opType})`
}

interface StageParts {
  stage: number
  nodes: readonly NodeProto[]
  inputs: readonly string[]
  outputs: readonly string[]
}

function stageOf(model: ModelProto & { graph: GraphProto }, { flow, typeOf }: CutOptions, { stage, nodes, inputs, outputs }: StageParts): Stage {
  const declaredInputs = new Map(model.graph.input.map((info) => [info.name, info]))
  const declaredOutputs = new Map(model.graph.output.map((info) => [info.name, info]))
  const crossing = (name: string): ValueInfoProto => {
    const info = typeOf(name)
    if (info === undefined)
      throw new FlyweightError('invalid_plan', `"${name}" is no tensor, and cannot pass between stages; put the nodes around it into one stage`)
    return info
  }
  const constants = constantsFor([...nodes.flatMap((node) => [...usedTensors(node)]), ...outputs], flow)
  const kept = new Set([...nodes, ...constants.nodes])
  const graph = shallowCopy(model.graph)
  graph.name = `${model.graph.name}-stage-${stage}`
  graph.node = model.graph.node.filter((node) => kept.has(node))
  graph.initializer = graph.initializer.filter(({ name }) => constants.stored.has(name))
  graph.sparseInitializer = graph.sparseInitializer.filter(({ values }) => values !== undefined && constants.stored.has(values.name))
  // Old models list their stored tensors among the inputs, and have to.
  const listed = graph.input.filter(({ name }) => constants.stored.has(name))
  graph.input = [...inputs.map((name) => declaredInputs.get(name) ?? crossing(name)), ...listed]
  graph.output = outputs.map((name) => declaredOutputs.get(name) ?? crossing(name))
  const written = new Set(graph.node.flatMap(({ output }) => output))
  const given = new Set(outputs)
  graph.valueInfo = graph.valueInfo.filter(({ name }) => written.has(name) && !given.has(name))
  graph.quantizationAnnotation = []
  const stageModel = shallowCopy(model)
  stageModel.graph = graph
  stageModel.trainingInfo = []
  return { model: stageModel, inputs, outputs }
}
