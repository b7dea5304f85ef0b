// ONNX protobuf messages: the only import of onnx-buf. Everything above works on these messages
// in place; there is no second in-memory representation of a model.
import { create, fromBinary, toBinary } from '@bufbuild/protobuf'
import {
  AttributeProto_AttributeType,
  AttributeProtoSchema,
  GraphProtoSchema,
  ModelProtoSchema,
  NodeProtoSchema,
  OperatorSetIdProtoSchema,
  StringStringEntryProtoSchema,
  TensorProto_DataLocation,
  TensorProtoSchema,
  TensorShapeProto_DimensionSchema,
  TensorShapeProtoSchema,
  TypeProto_TensorSchema,
  TypeProtoSchema,
  ValueInfoProtoSchema,
  type AttributeProto,
  type GraphProto,
  type ModelProto,
  type NodeProto,
  type TensorProto,
  type ValueInfoProto,
} from 'onnx-buf'
import { FlyweightError, messageOf } from '../errors.js'

export type { AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto }
export {
  AttributeProto_AttributeType as AttributeType,
  AttributeProtoSchema,
  create,
  GraphProtoSchema,
  ModelProtoSchema,
  NodeProtoSchema,
  OperatorSetIdProtoSchema,
  StringStringEntryProtoSchema,
  TensorProto_DataLocation as DataLocation,
  TensorProtoSchema,
  TensorShapeProto_DimensionSchema,
  TensorShapeProtoSchema,
  TypeProto_TensorSchema,
  TypeProtoSchema,
  ValueInfoProtoSchema,
}

/**
 * Decodes a .onnx file's bytes. Weights alias `bytes` (protobuf-es does not copy byte fields).
 * @throws FlyweightError `invalid_model` when the bytes are not an ONNX model with a graph.
 */
export function decodeModel(bytes: Uint8Array): ModelProto & { graph: GraphProto } {
  let model: ModelProto
  try {
    // A plain view: `Buffer.slice` shares memory where `Uint8Array.slice` copies, and weights become views of these bytes.
    model = fromBinary(ModelProtoSchema, new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength))
  } catch (cause) {
    throw new FlyweightError('invalid_model', `not an ONNX file: ${messageOf(cause)}`, { cause })
  }
  if (!model.graph || model.graph.node.length === 0) {
    throw new FlyweightError('invalid_model', 'not an ONNX file: it holds no graph with nodes')
  }
  return model as ModelProto & { graph: GraphProto }
}

/** A copy of one message whose fields may be replaced; lists, bytes and inner messages stay shared. */
export function shallowCopy<T extends object>(message: T): T {
  return Object.assign(Object.create(Object.getPrototypeOf(message)), message)
}

/** A copy that shares nothing that is changed in place but keeps weights' bytes shared. */
export function structuralCopy<T>(value: T): T {
  if (typeof value !== 'object' || value === null || ArrayBuffer.isView(value)) return value
  if (Array.isArray(value)) return (typeof value[0] === 'object' ? value.map(structuralCopy) : value.slice()) as T
  const copy = Object.create(Object.getPrototypeOf(value)) as Record<string, unknown>
  for (const [key, field] of Object.entries(value)) copy[key] = structuralCopy(field)
  return copy as T
}

/** Encodes a model; the same message always gives the same bytes. */
export function encodeModel(model: ModelProto): Uint8Array<ArrayBuffer> {
  return toBinary(ModelProtoSchema, model)
}
