// Running models in tests: seeded inputs, one run, and a comparison that says where outputs differ.
import { model, valueInfo } from '#flyweight/onnx/builder.js'
import { encodeModel, type GraphProto, type ModelProto, type NodeProto, type TensorProto, type ValueInfoProto } from '#flyweight/onnx/proto.js'
import { openSession } from '#flyweight/runtime/session.js'
import { elementCount, type Tensor } from '#flyweight/tensor/tensor.js'

/** Uniform in [-1, 1), the same for the same seed. */
export function noise(dims: readonly number[], seed = 1): Tensor {
  let state = seed >>> 0
  const data = Float32Array.from({ length: elementCount(dims) }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 31 - 1
  })
  return { dtype: 'float32', dims, data }
}

export function floats(dims: readonly number[], values: readonly number[]): Tensor {
  return { dtype: 'float32', dims, data: Float32Array.from(values) }
}

export function int64s(dims: readonly number[], values: readonly number[]): Tensor {
  return { dtype: 'int64', dims, data: BigInt64Array.from(values, BigInt) }
}

export async function run(model: ModelProto, feeds: Record<string, Tensor>, optimization: 'disabled' | 'all' = 'disabled'): Promise<Record<string, Tensor>> {
  const session = await openSession(encodeModel(model), { optimization })
  try {
    return await session.run(feeds)
  } finally {
    await session.release()
  }
}

/** Largest absolute difference over all outputs; 0 means bitwise equal. Throws when names, types or dims differ. */
export function largestDifference(a: Record<string, Tensor>, b: Record<string, Tensor>): number {
  const shape = (tensors: Record<string, Tensor>) => JSON.stringify(Object.entries(tensors).map(([name, { dtype, dims }]) => [name, dtype, dims]))
  if (shape(a) !== shape(b)) throw new Error(`outputs differ in shape: ${shape(a)} and ${shape(b)}`)
  let largest = 0
  for (const [name, { data }] of Object.entries(a)) {
    const other = (b[name] as Tensor).data
    for (let i = 0; i < data.length; i++) {
      if (Object.is(data[i], other[i])) continue
      largest = Math.max(largest, Math.abs(Number(data[i]) - Number(other[i])) || Number.MIN_VALUE)
    }
  }
  return largest
}

export interface LooseModel {
  opset: number
  /** Inputs are declared as these, with symbolic dims. */
  feeds: Record<string, Tensor>
  /** Declares inputs without even their rank. */
  shapeless?: boolean
  constants?: TensorProto[]
}

/** A model of IR 7 whose shapes are not declared: float32 outputs of any shape. */
export function looseModel(of: LooseModel, nodes: NodeProto[], outputs: string[]): ModelProto & { graph: GraphProto } {
  const inputs = Object.entries(of.feeds).map(([name, { dtype, dims }]) => {
    const symbols = dims.map((_, axis) => `${name}${axis}`)
    return of.shapeless ? withoutShape(valueInfo(name, dtype, [])) : valueInfo(name, dtype, symbols)
  })
  const declared = outputs.map((name) => withoutShape(valueInfo(name, 'float32', [])))
  return model({ opset: of.opset, irVersion: 7, inputs, outputs: declared, nodes, initializers: of.constants ?? [] })
}

function withoutShape(info: ValueInfoProto): ValueInfoProto {
  if (info.type?.value.case === 'tensorType') delete info.type.value.value.shape
  return info
}
