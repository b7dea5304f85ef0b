// Seeded damage to models: what fuzz tests feed to whatever reads untrusted files. Damaged bytes mostly try
// the decoder; damaged fields of a sound message get through to the checks and into the runtime.
import { decodeModel, encodeModel, type GraphProto, type NodeProto, type TensorProto } from '#flyweight/onnx/proto.js'

export interface Random {
  /** 0..limit-1. */
  below(limit: number): number
  byte(): number
  pick<Item>(items: readonly Item[]): Item
}

/** Mulberry32: the same seed gives the same damage everywhere. */
export function seededRandom(seed: number): Random {
  let state = seed >>> 0
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
  const below = (limit: number) => Math.floor(next() * limit)
  return { below, byte: () => below(256), pick: (items) => items[below(items.length)] as never }
}

/** A damaged copy: a few flipped bits, a truncation, or a stretch that is cut out, replaced by another one or by noise. */
export function mutateBytes(source: Uint8Array, random: Random): Uint8Array {
  switch (random.below(6)) {
    case 0:
      return flip(source, random, source.length)
    case 1:
      // Names, dims and types are at both ends of a model, weights in the middle.
      return flip(source, random, Math.min(400, source.length))
    case 2:
      return source.slice(0, random.below(source.length))
    case 3:
      return splice(source, random, new Uint8Array())
    case 4: {
      const from = random.below(source.length)
      return splice(source, random, source.slice(from, from + 1 + random.below(64)))
    }
    default:
      return splice(source, random, Uint8Array.from({ length: 1 + random.below(16) }, random.byte))
  }
}

/** One to three changed bits, all near the end or all near the start, within `reach` bytes. */
function flip(source: Uint8Array, random: Random, reach: number): Uint8Array {
  const copy = new Uint8Array(source)
  const fromEnd = random.below(2) === 1
  for (let count = 1 + random.below(3); count > 0; count--) {
    const offset = random.below(reach)
    const at = fromEnd ? copy.length - 1 - offset : offset
    copy[at] = (copy[at] as number) ^ (1 << random.below(8))
  }
  return copy
}

/** Up to 32 bytes give way to `replacement`. */
function splice(source: Uint8Array, random: Random, replacement: Uint8Array): Uint8Array {
  const at = random.below(source.length)
  const removed = random.below(33)
  return Uint8Array.from([...source.subarray(0, at), ...replacement, ...source.subarray(at + removed)])
}

const OPERATORS = [
  'Relu',
  'Conv',
  'Gemm',
  'MatMul',
  'Reshape',
  'Softmax',
  'MaxPool',
  'Gather',
  'Concat',
  'Expand',
  'Tile',
  'Pad',
  'Resize',
  'Loop',
  'If',
  'Scan',
]
const NUMBERS = [0n, 1n, -1n, 2n, 3n, 255n, 65_536n, 2n ** 31n - 1n, 2n ** 31n, 2n ** 62n, -(2n ** 63n)]

/** A copy with one or two fields changed: an operator, an edge, an attribute, a stored tensor, a declared shape or type, a version. */
export function mutateFields(source: Uint8Array, random: Random): Uint8Array {
  const model = decodeModel(source)
  const changes = [
    () => mutateNode(random.pick(model.graph.node), model.graph, random),
    () => mutateNode(random.pick(model.graph.node), model.graph, random),
    () => mutateTensor(random.pick(model.graph.initializer), random),
    () => mutateInterface(model.graph, random),
    () => {
      for (const { domain } of model.opsetImport) if (domain === '') model.opsetImport[0]!.version = random.pick([...NUMBERS, 7n, 12n, 30n])
    },
    () => model.graph.node.push(random.pick(model.graph.node)),
    () => model.graph.node.reverse(),
  ]
  for (let count = 1 + random.below(2); count > 0; count--) random.pick(changes)()
  return encodeModel(model)
}

function mutateNode(node: NodeProto, graph: GraphProto, random: Random): void {
  const names = [
    ...graph.node.flatMap(({ output }) => output),
    ...graph.initializer.map(({ name }) => name),
    ...graph.input.map(({ name }) => name),
    '',
    'nowhere',
  ]
  const attribute = random.pick(node.attribute.length > 0 ? node.attribute : [undefined])
  switch (random.below(5)) {
    case 0:
      node.opType = random.pick(OPERATORS)
      return
    case 1:
      node.input[random.below(node.input.length + 1)] = random.pick(names)
      return
    case 2:
      node.input.splice(random.below(node.input.length), 1)
      return
    case 3:
      node.output[0] = random.pick(names)
      return
    default:
      if (attribute === undefined) return
      attribute.i = random.pick(NUMBERS)
      if (random.below(2) === 0) attribute.ints = Array.from({ length: random.below(6) }, () => random.pick(NUMBERS))
      else if (attribute.ints.length > 0) attribute.ints[random.below(attribute.ints.length)] = random.pick(NUMBERS)
  }
}

function mutateTensor(tensor: TensorProto, random: Random): void {
  switch (random.below(4)) {
    case 0:
      tensor.dims[random.below(tensor.dims.length + 1)] = random.pick(NUMBERS)
      return
    case 1:
      tensor.dataType = random.below(25)
      return
    case 2:
      tensor.rawData = tensor.rawData.slice(0, random.below(tensor.rawData.length))
      return
    default:
      // Still sound: other weights, or another target of a Reshape.
      tensor.rawData = Uint8Array.from(tensor.rawData, (byte) => (random.below(8) === 0 ? random.byte() : byte))
  }
}

function mutateInterface(graph: GraphProto, random: Random): void {
  const info = random.pick([...graph.input, ...graph.output])
  const type = info.type?.value
  if (type?.case !== 'tensorType' || random.below(5) === 0) {
    info.name = random.pick(['', 'renamed', ...graph.node.map(({ output }) => output[0] ?? '')])
  } else if (random.below(2) === 0) {
    type.value.elemType = random.below(25)
  } else {
    const dims = type.value.shape?.dim ?? []
    const dim = dims[random.below(dims.length)]
    if (dim) dim.value = { case: 'dimValue', value: random.pick(NUMBERS) }
    if (random.below(3) === 0) dims.pop()
  }
}
