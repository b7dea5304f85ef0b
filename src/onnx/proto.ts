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
    model = fromBinary(ModelProtoSchema, bytes)
  } catch (cause) {
    throw new FlyweightError('invalid_model', `not an ONNX file: ${messageOf(cause)}`, { cause })
  }
  if (!model.graph || model.graph.node.length === 0) {
    throw new FlyweightError('invalid_model', 'not an ONNX file: it holds no graph with nodes')
  }
  return model as ModelProto & { graph: GraphProto }
}

/** Encodes a model; the same message always gives the same bytes. */
export function encodeModel(model: ModelProto): Uint8Array<ArrayBuffer> {
  return toBinary(ModelProtoSchema, model)
}
