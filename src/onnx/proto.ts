// ONNX protobuf messages: the only import of onnx-buf. Everything above works on these messages
// in place; there is no second in-memory representation of a model.
import { clearField, create, fromBinary, toBinary, type DescMessage, type MessageShape } from '@bufbuild/protobuf'
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

/** Numbers of fields in onnx.proto3. */
const MODEL_GRAPH = 7
const GRAPH_NODE = 1
const GRAPH_INITIALIZER = 5
const TENSOR_RAW_DATA = 9
/** Smaller weights are not worth a piece of their own. */
const LARGE = 4096
/** Protobuf's length-delimited wire type. */
const DELIMITED = 2

/** Byte fields below this size get bytes of their own, in files from the other size on. */
const [SMALL, LARGE_FILE] = [2 ** 20, 2 ** 26]

/**
 * Decodes a .onnx file's bytes. Large weights alias `bytes` (protobuf-es does not copy byte fields).
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
  if (bytes.length >= LARGE_FILE) ownSmallBytes(model)
  return model as ModelProto & { graph: GraphProto }
}

/** A name or a bias that aliases the file would keep all of it in memory after its large weights were replaced. */
function ownSmallBytes(parent: object): void {
  for (const [key, value] of Object.entries(parent) as [string, unknown][]) {
    if (value instanceof Uint8Array) {
      if (value.length < SMALL) Object.assign(parent, { [key]: value.slice() })
    } else if (Array.isArray(value) ? typeof value[0] === 'object' : typeof value === 'object' && value !== null) ownSmallBytes(value as object)
  }
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
  const pieces = encodedPieces(model)
  const bytes = new Uint8Array(pieces.reduce((sum, { length }) => sum + length, 0))
  let offset = 0
  for (const piece of pieces) {
    bytes.set(piece, offset)
    offset += piece.length
  }
  return bytes
}

/**
 * The same bytes in pieces, those of large weights the weights' own: protobuf-es would copy them once for every message
 * around them.
 */
export function encodedPieces(model: ModelProto): Uint8Array[] {
  const { graph } = model
  if (graph === undefined) return [toBinary(ModelProtoSchema, model)]
  return [
    encodeFields(ModelProtoSchema, model, (number) => number < MODEL_GRAPH),
    ...delimited(MODEL_GRAPH, graphPieces(graph)),
    encodeFields(ModelProtoSchema, model, (number) => number > MODEL_GRAPH, { last: true }),
  ]
}

function graphPieces(graph: GraphProto): Uint8Array[] {
  return [
    ...graph.node.flatMap((node) => delimited(GRAPH_NODE, [toBinary(NodeProtoSchema, node)])),
    encodeFields(GraphProtoSchema, graph, (number) => number > GRAPH_NODE && number < GRAPH_INITIALIZER),
    ...graph.initializer.flatMap((tensor) => delimited(GRAPH_INITIALIZER, tensorPieces(tensor))),
    encodeFields(GraphProtoSchema, graph, (number) => number > GRAPH_INITIALIZER, { last: true }),
  ]
}

function tensorPieces(tensor: TensorProto): Uint8Array[] {
  if (tensor.rawData.length < LARGE) return [toBinary(TensorProtoSchema, tensor)]
  return [
    encodeFields(TensorProtoSchema, tensor, (number) => number < TENSOR_RAW_DATA),
    ...delimited(TENSOR_RAW_DATA, [tensor.rawData]),
    encodeFields(TensorProtoSchema, tensor, (number) => number > TENSOR_RAW_DATA, { last: true }),
  ]
}

/** Those fields of a message that `keep` names by number, and with the last of them what the schema does not know. */
function encodeFields<Desc extends DescMessage>(
  schema: Desc,
  message: MessageShape<Desc>,
  keep: (number: number) => boolean,
  { last = false } = {},
): Uint8Array {
  const part = shallowCopy(message)
  for (const field of schema.fields) if (!keep(field.number)) clearField(part, field)
  if (!last) delete part.$unknown
  return toBinary(schema, part)
}

function delimited(field: number, pieces: readonly Uint8Array[]): Uint8Array[] {
  const length = pieces.reduce((sum, piece) => sum + piece.length, 0)
  return [varints((field << 3) | DELIMITED, length), ...pieces]
}

function varints(...values: readonly number[]): Uint8Array {
  const bytes: number[] = []
  for (let value of values) {
    for (; value >= 0x80; value = Math.floor(value / 0x80)) bytes.push((value % 0x80) | 0x80)
    bytes.push(value)
  }
  return Uint8Array.from(bytes)
}
