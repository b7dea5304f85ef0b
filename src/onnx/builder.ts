// Making ONNX messages: nodes, tensors, value infos, whole models. Used by passes, by the opset
// upgrade and by tests that need a graph of their own.
import { dtypes, viewBytes, type DType, type NumericArray, type Tensor } from '../tensor/tensor.js'
import { makeAttribute, type AttributeValue } from './attributes.js'
import {
  create,
  DataLocation,
  GraphProtoSchema,
  ModelProtoSchema,
  NodeProtoSchema,
  OperatorSetIdProtoSchema,
  TensorProtoSchema,
  TensorShapeProto_DimensionSchema,
  TensorShapeProtoSchema,
  TypeProto_TensorSchema,
  TypeProtoSchema,
  ValueInfoProtoSchema,
  type GraphProto,
  type ModelProto,
  type NodeProto,
  type TensorProto,
  type ValueInfoProto,
} from './proto.js'

const dtypeByNumber = new Map<number, DType>(Object.entries(dtypes).map(([name, { onnx }]) => [onnx, name as DType]))

/** dtype of ONNX's TensorProto.DataType number; undefined for types Flyweight does not carry (int4, float8, complex). */
export function dtypeOf(onnxType: number): DType | undefined {
  return dtypeByNumber.get(onnxType)
}

export interface NodeOptions {
  name?: string
  domain?: string
  attributes?: Record<string, AttributeValue>
}

export function node(opType: string, inputs: readonly string[], outputs: readonly string[], options: NodeOptions = {}): NodeProto {
  return create(NodeProtoSchema, {
    opType,
    input: [...inputs],
    output: [...outputs],
    name: options.name ?? outputs[0] ?? '',
    domain: options.domain ?? '',
    attribute: Object.entries(options.attributes ?? {}).map(([name, value]) => makeAttribute(name, value)),
  })
}

/** A TensorProto with raw data; the bytes alias `data`. */
export function tensorProto(name: string, dtype: Exclude<DType, 'string'>, dims: readonly number[], data: NumericArray | readonly number[]): TensorProto {
  const typed = ArrayBuffer.isView(data) ? data : typedFrom(dtype, data)
  return create(TensorProtoSchema, {
    name,
    dataType: dtypes[dtype].onnx,
    dims: dims.map(BigInt),
    rawData: new Uint8Array(typed.buffer, typed.byteOffset, typed.byteLength),
  })
}

function typedFrom(dtype: Exclude<DType, 'string'>, values: readonly number[]): NumericArray {
  if (dtype === 'int64') return BigInt64Array.from(values, BigInt)
  if (dtype === 'uint64') return BigUint64Array.from(values, BigInt)
  return dtypes[dtype].array.from(values)
}

/** Reads a TensorProto's values, whichever of ONNX's storage fields holds them. External data must be loaded first. */
export function tensorValues(proto: TensorProto): Tensor {
  const dtype = dtypeOf(proto.dataType)
  if (dtype === undefined) throw new TypeError(`tensor "${proto.name}" has data type ${proto.dataType}, which is not supported`)
  if (proto.dataLocation === DataLocation.EXTERNAL) throw new TypeError(`tensor "${proto.name}" has external data that was not loaded`)
  return { dtype, dims: proto.dims.map(Number), data: storedValues(proto, dtype) }
}

function storedValues(proto: TensorProto, dtype: DType): Tensor['data'] {
  if (dtype === 'string') return proto.stringData.map((bytes) => Buffer.from(bytes).toString())
  if (proto.rawData.length > 0) return viewBytes(dtype, proto.rawData)
  switch (dtype) {
    case 'float32':
      return Float32Array.from(proto.floatData)
    case 'float64':
      return Float64Array.from(proto.doubleData)
    case 'int64':
      return BigInt64Array.from(proto.int64Data)
    case 'uint64':
      return BigUint64Array.from(proto.uint64Data)
    case 'uint32':
      return Uint32Array.from(proto.uint64Data, Number)
    default:
      return dtypes[dtype].array.from(proto.int32Data)
  }
}

/** A typed, shaped graph input or output; a string is a symbolic dimension. */
export function valueInfo(name: string, dtype: DType, dims: readonly (number | string)[]): ValueInfoProto {
  const shape = create(TensorShapeProtoSchema, {
    dim: dims.map((dim) =>
      create(TensorShapeProto_DimensionSchema, {
        value: typeof dim === 'number' ? { case: 'dimValue', value: BigInt(dim) } : { case: 'dimParam', value: dim },
      }),
    ),
  })
  const tensorType = create(TypeProto_TensorSchema, { elemType: dtypes[dtype].onnx, shape })
  return create(ValueInfoProtoSchema, { name, type: create(TypeProtoSchema, { value: { case: 'tensorType', value: tensorType } }) })
}

export interface GraphOptions {
  name?: string
  inputs: readonly ValueInfoProto[]
  outputs: readonly ValueInfoProto[]
  nodes: readonly NodeProto[]
  initializers?: readonly TensorProto[]
}

export function graph(options: GraphOptions): GraphProto {
  return create(GraphProtoSchema, {
    name: options.name ?? 'graph',
    input: [...options.inputs],
    output: [...options.outputs],
    node: [...options.nodes],
    initializer: [...(options.initializers ?? [])],
  })
}

/** A model of one graph. IR 10 is the newest that opset 21 needs. */
export function model(options: GraphOptions & { opset?: number; irVersion?: number }): ModelProto & { graph: GraphProto } {
  const proto = create(ModelProtoSchema, {
    irVersion: BigInt(options.irVersion ?? 10),
    producerName: 'flyweight',
    opsetImport: [create(OperatorSetIdProtoSchema, { domain: '', version: BigInt(options.opset ?? 21) })],
    graph: graph(options),
  })
  return proto as ModelProto & { graph: GraphProto }
}
