// Outputs written into memory that was used before. What the runtime allocates are fresh pages each time, and each is a
// fault when it is written, which takes longer than small models.
import { dtypes, elementCount, type DType, type Tensor } from '../tensor/tensor.js'
import type { Session } from './session.js'

type Feeds = Readonly<Record<string, Tensor>>
type Shapes = Readonly<Record<string, { dtype: DType; dims: readonly number[] }>>

/** Sizes of inputs whose outputs' sizes are remembered. */
const MOST_SHAPES = 16

export class OutputMemory {
  readonly #session: Session
  readonly #shapes = new Map<string, Shapes>()
  /** The same sizes of inputs gave different ones of outputs: nothing can be said beforehand. */
  #varies = false

  constructor(session: Session) {
    this.#session = session
  }

  /**
   * Runs one batch; outputs whose sizes are known from a run before are written into buffers of `memory` that are just as
   * large. The others are left over.
   * @throws what the runtime throws
   */
  async run(
    feeds: Feeds,
    fetches: readonly string[] | undefined,
    memory: readonly ArrayBuffer[],
  ): Promise<{ outputs: Record<string, Tensor>; left: ArrayBuffer[] }> {
    const left = [...memory]
    if (memory.length === 0 || this.#varies) return { outputs: await this.#session.run(feeds, fetches), left }
    const key = JSON.stringify([Object.entries(feeds).map(([name, { dtype, dims }]) => [name, dtype, dims]), fetches])
    const into = fitting(this.#shapes.get(key) ?? {}, left)
    const written = Object.keys(into).length > 0 ? await this.#session.run(feeds, fetches, into).catch(() => undefined) : undefined
    if (written !== undefined) return { outputs: written, left }
    const outputs = await this.#session.run(feeds, fetches)
    if (Object.keys(into).length > 0) {
      this.#varies = true
      return { outputs, left: [...memory] }
    }
    if (this.#shapes.size === MOST_SHAPES) this.#shapes.clear()
    this.#shapes.set(key, Object.fromEntries(Object.entries(outputs).map(([name, { dtype, dims }]) => [name, { dtype, dims }])))
    return { outputs, left }
  }
}

/** Tensors on buffers of `left`, which loses them. */
function fitting(shapes: Shapes, left: ArrayBuffer[]): Record<string, Tensor> {
  const into: Record<string, Tensor> = {}
  for (const [name, { dtype, dims }] of Object.entries(shapes)) {
    if (dtype === 'string') continue
    const { array, bytes } = dtypes[dtype]
    const size = elementCount(dims) * bytes
    const at = left.findIndex(({ byteLength }) => byteLength === size && size > 0)
    if (at === -1) continue
    into[name] = { dtype, dims, data: new array(left[at]!) }
    left.splice(at, 1)
  }
  return into
}
