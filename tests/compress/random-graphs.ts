// Random small models, the same for the same seed: chains of operators with branches, residual sums, tied
// weights and subgraphs. A smaller `size` gives the beginning of the same model, which is how a failing one
// is cut short. Which operators there are is random-steps.ts's business.
import type { Model } from '#flyweight/compress/passes/pass.js'
import type { Samples } from '#flyweight/compress/samples.js'
import type { AttributeValue } from '#flyweight/onnx/attributes.js'
import { model, node, tensorProto, valueInfo } from '#flyweight/onnx/builder.js'
import type { NodeProto, TensorProto, ValueInfoProto } from '#flyweight/onnx/proto.js'
import { mulberry32 } from '#flyweight/runtime/sample-inputs.js'
import { elementCount, type Tensor } from '#flyweight/tensor/tensor.js'
import { noise } from '../onnx/running.js'
import { randomStep } from './random-steps.js'

/** A tensor of a sketch; `dims` are those of one row, behind the batch dimension. */
export interface Value {
  name: string
  dims: readonly number[]
}

/** A graph in the making, and the dice that make it. */
export class Sketch {
  readonly nodes: NodeProto[] = []
  readonly initializers: TensorProto[] = []
  /** Every float tensor so far, for residual sums and concatenations. */
  readonly values: Value[] = []
  readonly #random: () => number
  /** Shared with the sketches of subgraphs: names are unique in all of them. */
  readonly #counter: { count: number }
  readonly #weights = new Map<string, string[]>()

  constructor(random: () => number, counter = { count: 0 }) {
    this.#random = random
    this.#counter = counter
  }

  /** A sketch for a subgraph. */
  inner(): Sketch {
    return new Sketch(this.#random, this.#counter)
  }

  chance(share: number): boolean {
    return this.#random() < share
  }

  integer(least: number, most: number): number {
    return least + Math.floor(this.#random() * (most - least + 1))
  }

  pick<T>(list: readonly T[]): T {
    return list[this.integer(0, list.length - 1)] as T
  }

  name(of: string): string {
    return `${of}.${this.#counter.count++}`
  }

  /** Adds a node; its output is also what later nodes may branch off from. */
  apply(opType: string, inputs: readonly string[], dims: readonly number[], attributes: Record<string, AttributeValue> = {}): Value {
    const value = { name: this.name('t'), dims }
    this.add(opType, inputs, [value.name], attributes)
    this.values.push(value)
    return value
  }

  /** Adds a node whose outputs the caller looks after; one in ten has no name, as some exporters leave it. */
  add(opType: string, inputs: readonly string[], outputs: readonly string[], attributes: Record<string, AttributeValue> = {}): void {
    this.nodes.push(node(opType, inputs, outputs, { name: this.chance(0.1) ? '' : this.name(`/${opType}`), attributes }))
  }

  /** Float32 weights around `mean`; one time in six those of an earlier node of the same shape, which are then tied. */
  weights(dims: readonly number[], { deviation = 1, mean = 0 } = {}): string {
    const key = `${dims} ${deviation} ${mean}`
    const known = this.#weights.get(key) ?? []
    if (known.length > 0 && this.chance(0.16)) return this.pick(known)
    const data = (noise(dims, this.integer(1, 2 ** 30)).data as Float32Array<ArrayBuffer>).map((value) => mean + value * deviation * Math.sqrt(3))
    const proto = tensorProto(this.name('w'), 'float32', dims, data)
    if (this.chance(0.1)) this.nodes.push(node('Constant', [], [proto.name], { attributes: { value: proto } }))
    else this.initializers.push(proto)
    this.#weights.set(key, [...known, proto.name])
    return proto.name
  }

  floats(dims: readonly number[], values: readonly number[]): string {
    return this.#store(tensorProto(this.name('c'), 'float32', dims, values))
  }

  int64s(values: readonly number[]): string {
    return this.#store(tensorProto(this.name('i'), 'int64', [values.length], values))
  }

  scalar(value: number): string {
    return this.#store(tensorProto(this.name('i'), 'int64', [], [value]))
  }

  #store(proto: TensorProto): string {
    this.initializers.push(proto)
    return proto.name
  }
}

export interface RandomGraph {
  model: Model
  /** Rows seeded by `seed`. */
  feeds(rows: number, seed: number): Record<string, Tensor>
  samples: Samples
  operators: string
}

const SAMPLE_ROWS = 8
const LEAST_SIZE = 2
const MOST_SIZE = 9

/** The model of a seed: an input, `size` steps, one or two outputs. */
export function randomGraph(seed: number, size = LEAST_SIZE + (seed % (MOST_SIZE - LEAST_SIZE + 1))): RandomGraph {
  const sketch = new Sketch(mulberry32(seed))
  const start = firstValue(sketch)
  let current = start.value
  let middle: Value | undefined
  for (let step = 0; step < size; step++) {
    current = randomStep(sketch, current)
    if (step === 1) middle = current
  }
  // The output has a name of its own, which no pass may change.
  const outputs = seed % 5 === 0 && middle !== undefined && middle !== current ? [current, middle] : [current]
  const built = model({
    inputs: [start.input],
    outputs: outputs.map(({ name, dims }) => valueInfo(name, 'float32', ['n', ...dims])),
    nodes: sketch.nodes,
    initializers: sketch.initializers,
  })
  return {
    model: built,
    feeds: start.feeds,
    samples: { rows: SAMPLE_ROWS, digest: `random ${seed}`, take: (from, count) => start.feeds(count, from) },
    operators: built.graph.node.map(({ opType }) => opType).join(' '),
  }
}

function firstValue(sketch: Sketch): { value: Value; input: ValueInfoProto; feeds(rows: number, seed: number): Record<string, Tensor> } {
  const kind = sketch.pick(['image', 'image', 'image', 'sequence', 'sequence', 'vector', 'tokens'])
  if (kind === 'tokens') {
    const [vocabulary, length, width] = [sketch.integer(8, 40), sketch.integer(2, 6), 4 * sketch.integer(2, 6)]
    const value = sketch.apply('Gather', [sketch.weights([vocabulary, width]), 'x'], [length, width])
    const feeds = (rows: number, seed: number) => ({ x: tokens([rows, length], vocabulary, seed) })
    return { value, input: valueInfo('x', 'int64', ['n', length]), feeds }
  }
  const side = sketch.integer(5, 10)
  const dims = {
    image: () => [sketch.pick([1, 3, 4, 8]), side, side],
    sequence: () => [sketch.integer(2, 6), 4 * sketch.integer(2, 6)],
    vector: () => [4 * sketch.integer(2, 10)],
  }[kind as 'image' | 'sequence' | 'vector']()
  const value = { name: 'x', dims }
  sketch.values.push(value)
  const feeds = (rows: number, seed: number) => ({ x: joined(dims, rows, seed) })
  return { value, input: valueInfo('x', 'float32', ['n', ...dims]), feeds }
}

/** Row `i` of seed `s` is row 0 of seed `s + i`, so that samples can be taken in any batches. */
function joined(dims: readonly number[], rows: number, seed: number): Tensor {
  const count = elementCount(dims)
  const data = new Float32Array(rows * count)
  for (let row = 0; row < rows; row++) data.set(noise(dims, 7919 * (seed + row + 1)).data as Float32Array, row * count)
  return { dtype: 'float32', dims: [rows, ...dims], data }
}

function tokens(dims: readonly [number, number], vocabulary: number, seed: number): Tensor {
  const values = joined([dims[1]], dims[0], seed).data as Float32Array
  return { dtype: 'int64', dims, data: BigInt64Array.from(values, (value) => BigInt(Math.floor(((value + 1) / 2) * vocabulary))) }
}
