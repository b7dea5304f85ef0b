// What a model declares and is made of, read off its file without running it.
import { FlyweightError } from '../errors.js'
import { elementCount, type TensorSpec } from '../tensor/tensor.js'
import { dtypeOf } from './builder.js'
import { allGraphs, allTensors } from './graph.js'
import type { GraphProto, ModelProto, ValueInfoProto } from './proto.js'

export interface Summary {
  /** Version of the ai.onnx operator set. */
  opset: number
  /** Elements of all stored tensors but those of int64, bool and string, which hold shapes and indices. */
  parameters: number
  /** Operator → count, over all graphs; operators outside ai.onnx are `domain::name`. */
  operators: Readonly<Record<string, number>>
  inputs: readonly TensorSpec[]
  outputs: readonly TensorSpec[]
}

/** A summary, and what only a run can tell. */
export interface Signature extends Readonly<Summary> {
  /** The first dimension of every input and output is a free batch dimension: a batch of two gave the same rows as two batches of one. */
  batchable: boolean
}

/** @throws FlyweightError `invalid_model` when an input or output is not a tensor of a supported type. */
export function summarize(model: ModelProto & { graph: GraphProto }): Summary {
  return {
    opset: opsetOf(model),
    parameters: parameterCount(model),
    operators: operatorCounts(model.graph),
    inputs: modelInputs(model.graph).map((input) => tensorSpec(input, 'input')),
    outputs: model.graph.output.map((output) => tensorSpec(output, 'output')),
  }
}

/** Version of the ai.onnx operator set a model uses; 1 where it imports none, as the ONNX specification has it. */
export function opsetOf(model: ModelProto): number {
  const entry = model.opsetImport.find(({ domain }) => domain === '' || domain === 'ai.onnx')
  return Number(entry?.version ?? 1n)
}

/** Declared inputs a caller must feed: before IR 4 every initializer was listed as an input too. */
function modelInputs(graph: GraphProto): ValueInfoProto[] {
  const initializers = new Set(graph.initializer.map(({ name }) => name))
  return graph.input.filter(({ name }) => !initializers.has(name))
}

/** @throws FlyweightError `invalid_model` for sequences, maps and element types Flyweight does not carry. */
function tensorSpec(info: ValueInfoProto, role: 'input' | 'output'): TensorSpec {
  const type = info.type?.value
  if (type?.case !== 'tensorType') {
    throw new FlyweightError('invalid_model', `${role} "${info.name}" is ${type?.case ? `a ${type.case.replace('Type', '')}` : 'untyped'}, expected a tensor`)
  }
  const dtype = dtypeOf(type.value.elemType)
  if (dtype === undefined) {
    throw new FlyweightError('invalid_model', `${role} "${info.name}" has element type ${type.value.elemType} of ONNX, which is not supported`)
  }
  const dims = (type.value.shape?.dim ?? []).map(({ value }) => {
    if (value.case === 'dimValue') return Number(value.value) < 0 ? -1 : Number(value.value)
    return value.case === 'dimParam' && value.value !== '' ? value.value : -1
  })
  return { name: info.name, dtype, dims }
}

function parameterCount(model: ModelProto): number {
  let count = 0
  for (const tensor of allTensors(model)) {
    const dtype = dtypeOf(tensor.dataType)
    if (dtype === 'int64' || dtype === 'bool' || dtype === 'string') continue
    count += elementCount(tensor.dims.map(Number))
  }
  return count
}

function operatorCounts(root: GraphProto): Record<string, number> {
  const counts = new Map<string, number>()
  for (const { graph } of allGraphs(root)) {
    for (const { domain, opType } of graph.node) {
      const name = domain === '' || domain === 'ai.onnx' ? opType : `${domain}::${opType}`
      counts.set(name, (counts.get(name) ?? 0) + 1)
    }
  }
  return Object.fromEntries([...counts].sort(([a], [b]) => (a < b ? -1 : 1)))
}
