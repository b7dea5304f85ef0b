// Reading and writing node attributes with their ONNX types.
import { AttributeProtoSchema, AttributeType, create, type AttributeProto, type GraphProto, type NodeProto, type TensorProto } from './proto.js'

export type AttributeValue = number | bigint | string | number[] | bigint[] | string[] | TensorProto | GraphProto | { float: number } | { floats: number[] }

export function attribute(node: NodeProto, name: string): AttributeProto | undefined {
  return node.attribute.find((candidate) => candidate.name === name)
}

export function intAttribute(node: NodeProto, name: string, fallback: number): number
export function intAttribute(node: NodeProto, name: string): number | undefined
export function intAttribute(node: NodeProto, name: string, fallback?: number): number | undefined {
  const found = attribute(node, name)
  return found === undefined ? fallback : Number(found.i)
}

export function floatAttribute(node: NodeProto, name: string, fallback: number): number {
  return attribute(node, name)?.f ?? fallback
}

export function stringAttribute(node: NodeProto, name: string, fallback = ''): string {
  const found = attribute(node, name)
  return found === undefined ? fallback : Buffer.from(found.s).toString()
}

export function intsAttribute(node: NodeProto, name: string): number[] | undefined {
  return attribute(node, name)?.ints.map(Number)
}

/**
 * Builds an attribute. Integers become INT(S); wrap in `{float}` or `{floats}` for FLOAT(S), because
 * JavaScript cannot tell 1 from 1.0 and ONNX does.
 */
export function makeAttribute(name: string, value: AttributeValue): AttributeProto {
  const of = (type: AttributeType, fields: Partial<AttributeProto>) => create(AttributeProtoSchema, { name, type, ...fields } as never)
  if (typeof value === 'number' || typeof value === 'bigint') return of(AttributeType.INT, { i: BigInt(value) })
  if (typeof value === 'string') return of(AttributeType.STRING, { s: utf8(value) })
  if (Array.isArray(value)) {
    if (typeof value[0] === 'string') return of(AttributeType.STRINGS, { strings: (value as string[]).map(utf8) })
    return of(AttributeType.INTS, { ints: (value as (number | bigint)[]).map(BigInt) })
  }
  if ('float' in value) return of(AttributeType.FLOAT, { f: value.float })
  if ('floats' in value) return of(AttributeType.FLOATS, { floats: value.floats })
  if (value.$typeName === 'onnx.TensorProto') return of(AttributeType.TENSOR, { t: value })
  return of(AttributeType.GRAPH, { g: value })
}

/** Sets or replaces an attribute in place. */
export function setAttribute(node: NodeProto, name: string, value: AttributeValue): void {
  removeAttribute(node, name)
  node.attribute.push(makeAttribute(name, value))
}

export function removeAttribute(node: NodeProto, name: string): void {
  node.attribute = node.attribute.filter((candidate) => candidate.name !== name)
}

/** The graphs a node owns (If, Loop, Scan, SequenceMap), in attribute order. */
export function subgraphs(node: NodeProto): GraphProto[] {
  return node.attribute.flatMap((candidate) => (candidate.g ? [candidate.g, ...candidate.graphs] : candidate.graphs))
}

function utf8(text: string): Uint8Array<ArrayBuffer> {
  return new Uint8Array(Buffer.from(text))
}
