// Stages as a chain: what a stage does not need but a later one does passes through it, so that the outputs of each are
// exactly the inputs of the next. For routers that hand on nothing but the last answer.
import { FlyweightError } from '../errors.js'
import { dtypeOf, node } from '../onnx/builder.js'
import { usedTensors } from '../onnx/graph.js'
import { shallowCopy, type ValueInfoProto } from '../onnx/proto.js'
import type { Stage } from './stages.js'

export interface ChainIo {
  /** Of the whole, without stored tensors. */
  inputs: readonly ValueInfoProto[]
  outputs: readonly string[]
}

/**
 * The first takes all inputs of the whole, the last gives its outputs. A value that passes through a stage goes through an
 * Identity, and has a name of its own behind each: no value of a model can be its input and its output. Weights are shared
 * with the stages given.
 * @throws FlyweightError `invalid_plan` for a value that JSON does not carry in the protocol v2: FP16 and BF16
 */
export function chainStages(stages: readonly Stage[], { inputs, outputs }: ChainIo): Stage[] {
  const infos = new Map(inputs.map((info) => [info.name, info]))
  for (const { model } of stages) for (const info of model.graph.output) infos.set(info.name, info)
  const taken = new Set(stages.flatMap(({ model }) => model.graph.node.flatMap((each) => [...each.input, ...each.output])).concat([...infos.keys()]))
  const last = stages.length - 1
  /** Value → its name between the stage before and this one. */
  let arriving = new Map(inputs.map(({ name }) => [name, name]))
  return stages.map((stage, index) => {
    const own = new Set(stage.outputs)
    const later = new Set([...outputs, ...stages.slice(index + 1).flatMap((each) => each.inputs)])
    const wanted = index === last ? outputs : [...new Set([...arriving.keys(), ...own])].filter((name) => later.has(name))
    const leaving = new Map(wanted.map((name) => [name, own.has(name) || index === last ? name : freshName(`${name}~${index}`, taken)]))
    const chained = passing(stage, { arriving, leaving, own, infos })
    if (index !== last) for (const name of leaving.keys()) checkCarried(name, infos.get(name)!)
    arriving = leaving
    return chained
  })
}

interface Passing {
  arriving: ReadonlyMap<string, string>
  leaving: ReadonlyMap<string, string>
  own: ReadonlySet<string>
  infos: ReadonlyMap<string, ValueInfoProto>
}

function passing({ model }: Stage, { arriving, leaving, own, infos }: Passing): Stage {
  const graph = shallowCopy(model.graph)
  const read = new Set(graph.node.flatMap((each) => [...usedTensors(each)]))
  const through = [...leaving].filter(([name]) => !own.has(name))
  const renamed = [...arriving].filter(([name, as]) => name !== as && (read.has(name) || leaving.get(name) === name))
  const named = new Set(renamed.map(([name]) => name))
  graph.node = [
    ...renamed.map(([name, as]) => node('Identity', [as], [name])),
    ...graph.node,
    ...through.flatMap(([name, as]) => (as === name && named.has(name) ? [] : [node('Identity', [arriving.get(name)!], [as])])),
  ]
  const declared = new Set(model.graph.input.map(({ name }) => name))
  const stored = graph.initializer.filter(({ name }) => declared.has(name)).map(({ name }) => name)
  const infoAs = (name: string, as: string) => Object.assign(shallowCopy(infos.get(name)!), { name: as })
  graph.input = [...[...arriving].map(([name, as]) => infoAs(name, as)), ...model.graph.input.filter(({ name }) => stored.includes(name))]
  graph.output = [...leaving].map(([name, as]) => infoAs(name, as))
  const given = new Set([...arriving.values(), ...leaving.values()])
  graph.valueInfo = graph.valueInfo.filter(({ name }) => !given.has(name))
  const chained = shallowCopy(model)
  chained.graph = graph
  return { model: chained, inputs: [...arriving.values()], outputs: [...leaving.values()] }
}

function freshName(wanted: string, taken: Set<string>): string {
  let name = wanted
  while (taken.has(name)) name += '~'
  taken.add(name)
  return name
}

function checkCarried(name: string, { type }: ValueInfoProto): void {
  const dtype = type?.value.case === 'tensorType' ? dtypeOf(type.value.value.elemType) : undefined
  if (dtype !== undefined && dtype !== 'float16' && dtype !== 'bfloat16') return
  throw new FlyweightError('invalid_plan', `"${name}" would pass between services as ${dtype ?? 'no known type'}, which JSON does not carry; cut elsewhere`)
}
