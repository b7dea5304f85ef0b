import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  attribute,
  floatAttribute,
  intAttribute,
  intsAttribute,
  makeAttribute,
  removeAttribute,
  setAttribute,
  stringAttribute,
  subgraphs,
} from '#flyweight/onnx/attributes.js'
import { dtypeOf, graph, model, node, tensorProto, tensorValues, valueInfo } from '#flyweight/onnx/builder.js'
import { allGraphs, allTensors, capturedTensors, GraphIndex, usedTensors } from '#flyweight/onnx/graph.js'
import { AttributeType, create, decodeModel, encodeModel, structuralCopy, TensorProtoSchema } from '#flyweight/onnx/proto.js'
import { summarize } from '#flyweight/onnx/summary.js'
import { dtypes, type DType } from '#flyweight/tensor/tensor.js'

const f = (name: string) => valueInfo(name, 'float32', [])
const constant = (name: string, value: number) => node('Constant', [], [name], { attributes: { value: tensorProto('', 'float32', [], [value]) } })
const branch = (name: string, reads: string) =>
  graph({ name, inputs: [], outputs: [f(name)], nodes: [constant(`${name}_k`, 1), node('Add', [reads, `${name}_k`], [name])] })
const subject = model({
  inputs: [f('x'), valueInfo('c', 'bool', [])],
  outputs: [f('y'), f('h')],
  nodes: [
    constant('k', 3),
    node('Mul', ['x', 'k'], ['h']),
    node('Mul', ['h', 'w'], ['unread']),
    node('If', ['c'], ['y'], { name: 'choose', attributes: { then_branch: branch('t', 'h'), else_branch: branch('e', 'x') } }),
  ],
  initializers: [tensorProto('w', 'float32', [2], [1, 2])],
})

describe('GraphIndex', () => {
  const index = new GraphIndex(subject.graph)
  it('finds producers and consumers, also those whose subgraphs capture a tensor', () => {
    expect(index.producer('h')?.opType).toBe('Mul')
    expect(index.producer('x')).toBeUndefined()
    expect(index.consumers('h').map(({ output }) => output[0])).toEqual(['unread', 'y'])
    expect(index.consumers('unread')).toEqual([])
    expect([index.isOutput('h'), index.isOutput('unread')]).toEqual([true, false])
  })

  it('reads constants of initializers and Constant nodes, in subgraphs those of the outer graph too', () => {
    expect(index.constant('w')).toEqual({ dtype: 'float32', dims: [2], data: Float32Array.of(1, 2) })
    expect(index.constant('k')?.data).toEqual(Float32Array.of(3))
    expect(index.constant('h')).toBeUndefined()
    const inner = new GraphIndex(graph({ inputs: [f('w')], outputs: [], nodes: [node('Relu', ['k'], ['r'])] }), index)
    expect(inner.constant('k')?.data).toEqual(Float32Array.of(3))
    expect(inner.constant('w'), 'shadowed by an input').toBeUndefined()
    expect(inner.constant('r')).toBeUndefined()
  })

  it('knows what nodes and subgraphs read from outside', () => {
    const choose = subject.graph.node[3]!
    expect([...usedTensors(choose)].sort()).toEqual(['c', 'h', 'x'])
    expect([...capturedTensors(subgraphs(choose)[0]!)]).toEqual(['h'])
    expect([...capturedTensors(graph({ inputs: [], outputs: [f('outer')], nodes: [] }))]).toEqual(['outer'])
  })

  it('walks graphs and stored tensors', () => {
    expect([...allGraphs(subject.graph)].map(({ path }) => path)).toEqual([[], ['choose'], ['choose']])
    expect([...allTensors(subject)].map(({ name, dims }) => [name, dims.length])).toEqual([
      ['w', 1],
      ['', 0],
      ['', 0],
      ['', 0],
    ])
  })
})

describe('summarize', () => {
  it('counts operators and parameters over all graphs and reads the signature', () => {
    const copy = structuralCopy(subject)
    copy.graph.input.push(valueInfo('w', 'float32', [2]), valueInfo('z', 'int64', ['batch', 3, -1]))
    copy.graph.initializer.push(tensorProto('shape', 'int64', [4], [1, 2, 3, 4]))
    copy.graph.node.push(node('FusedGemm', ['x', 'x'], ['g'], { domain: 'com.microsoft' }))
    expect(summarize(copy)).toEqual({
      opset: 21,
      parameters: 2 + 3,
      operators: { Add: 2, Constant: 3, If: 1, Mul: 2, 'com.microsoft::FusedGemm': 1 },
      inputs: [
        { name: 'x', dtype: 'float32', dims: [] },
        { name: 'c', dtype: 'bool', dims: [] },
        { name: 'z', dtype: 'int64', dims: ['batch', 3, -1] },
      ],
      outputs: [
        { name: 'y', dtype: 'float32', dims: [] },
        { name: 'h', dtype: 'float32', dims: [] },
      ],
    })
  })

  it('refuses inputs that are not tensors', () => {
    const copy = structuralCopy(subject)
    delete copy.graph.input[0]!.type
    expect(() => summarize(copy)).toThrow(/input "x" is untyped, expected a tensor/)
  })
})

describe('attributes', () => {
  it('are read back as they were set', () => {
    const subject = node('Any', [], [], { attributes: { i: 3, f: { float: 1 }, s: 'täxt', is: [1, -2], fs: { floats: [1, 2] }, ss: ['a', 'b'] } })
    expect(intAttribute(subject, 'i')).toBe(3)
    expect(floatAttribute(subject, 'f', 0)).toBe(1)
    expect(stringAttribute(subject, 's')).toBe('täxt')
    expect(intsAttribute(subject, 'is')).toEqual([1, -2])
    expect(subject.attribute.map(({ type }) => type)).toEqual([
      AttributeType.INT,
      AttributeType.FLOAT,
      AttributeType.STRING,
      AttributeType.INTS,
      AttributeType.FLOATS,
      AttributeType.STRINGS,
    ])
    setAttribute(subject, 'i', 4)
    removeAttribute(subject, 'f')
    expect(intAttribute(subject, 'i', 0)).toBe(4)
    expect([floatAttribute(subject, 'f', 0.5), intAttribute(subject, 'x'), intsAttribute(subject, 'x'), stringAttribute(subject, 'x', 'd')]).toEqual([
      0.5,
      undefined,
      undefined,
      'd',
    ])
    expect(attribute(subject, 'i')).toEqual(makeAttribute('i', 4))
  })
})

describe('tensorProto and tensorValues', () => {
  const numeric = (Object.keys(dtypes) as DType[]).filter((dtype): dtype is Exclude<DType, 'string'> => dtype !== 'string')

  it('round-trip every dtype through an encoded model, at any alignment', () => {
    fc.assert(
      fc.property(fc.constantFrom(...numeric), fc.array(fc.nat(127), { maxLength: 9 }), fc.string({ maxLength: 9 }), (dtype, values, name) => {
        const proto = tensorProto(name, dtype, [values.length], values)
        const bytes = Buffer.from(encodeModel(model({ inputs: [], outputs: [], nodes: [node('Relu', [], [])], initializers: [proto] })))
        const stored = decodeModel(bytes).graph.initializer[0]!
        const { data, ...rest } = tensorValues(stored)
        expect(rest).toEqual({ dtype, dims: [values.length] })
        expect([...data].map(Number)).toEqual(values)
        expect(dtypeOf(stored.dataType)).toBe(dtype)
      }),
      { numRuns: 300, seed: 5 },
    )
  })

  it('read the typed storage fields too', () => {
    const of = (dtype: DType, fields: object) => tensorValues(create(TensorProtoSchema, { dataType: dtypes[dtype].onnx, dims: [2n], ...fields })).data
    expect(of('float32', { floatData: [1, 2] })).toEqual(Float32Array.of(1, 2))
    expect(of('float64', { doubleData: [1, 2] })).toEqual(Float64Array.of(1, 2))
    expect(of('int64', { int64Data: [1n, -2n] })).toEqual(BigInt64Array.of(1n, -2n))
    expect(of('uint64', { uint64Data: [1n, 2n] })).toEqual(BigUint64Array.of(1n, 2n))
    expect(of('uint32', { uint64Data: [1n, 2n] })).toEqual(Uint32Array.of(1, 2))
    expect(of('float16', { int32Data: [0x3c00, 0xbc00] })).toEqual(Uint16Array.of(0x3c00, 0xbc00))
    expect(of('int8', { int32Data: [1, -2] })).toEqual(Int8Array.of(1, -2))
    expect(of('string', { stringData: [Buffer.from('é'), Buffer.from('')] })).toEqual(['é', ''])
  })

  it('refuse types Flyweight does not carry', () => {
    expect(() => tensorValues(create(TensorProtoSchema, { name: 'q', dataType: 22 }))).toThrow(/tensor "q" has data type 22/)
  })
})

describe('structuralCopy', () => {
  it('shares bytes and nothing else', () => {
    const copy = structuralCopy(subject)
    expect(copy).toEqual(subject)
    expect(copy.graph.initializer[0]?.rawData).toBe(subject.graph.initializer[0]?.rawData)
    copy.graph.node[1]!.input[0] = 'changed'
    expect(subject.graph.node[1]?.input[0]).toBe('x')
    expect(encodeModel(structuralCopy(subject))).toEqual(encodeModel(subject))
  })
})

describe('decodeModel', () => {
  it('refuses bytes that are not a model, at every cut of a real one, without crashing', () => {
    const bytes = encodeModel(subject)
    for (let length = 0; length < bytes.length; length++) {
      try {
        decodeModel(bytes.subarray(0, length))
      } catch (error) {
        expect(error).toMatchObject({ code: 'invalid_model' })
      }
    }
    expect(() => decodeModel(new Uint8Array())).toThrow(/no graph with nodes/)
  })
})
