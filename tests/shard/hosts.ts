// Stage hosts for tests: one that computes in JavaScript, when it is told to, and takes buffers away as a thread does;
// and one that runs stages in this thread without the runtime's optimizations.
import { FlyweightError } from '#flyweight/errors.js'
import { openSession, type Session } from '#flyweight/runtime/session.js'
import type { StageHost } from '#flyweight/shard/stage-host.js'
import type { Tensor } from '#flyweight/tensor/tensor.js'
import { floats } from '../onnx/running.js'
import type { Feeds } from './stages.js'

type Listener = (reason: string) => void
type Answer = { outputs: Feeds; runMs: number; spent: ArrayBuffer[] }

/** What a host of JavaScript is to do with a run: `answer()` computes and settles it. */
export interface Held {
  key: string
  fetches: readonly string[] | undefined
  memory: readonly ArrayBuffer[]
  answer(): void
  fail(error: Error): void
}

export class FakeHost implements StageHost {
  readonly name: string
  /** Those not answered, in order. */
  readonly held: Held[] = []
  /** All memory that it gave to the pipeline. */
  readonly given: ArrayBuffer[] = []
  /** Most that it had at a time. */
  most = 0
  readonly #compute: (key: string, feeds: Feeds) => Feeds
  readonly #listeners = new Set<Listener>()
  #lost: string | undefined

  /** @param compute all outputs of the stage of `key` */
  constructor(name: string, compute: (key: string, feeds: Feeds) => Feeds) {
    this.name = name
    this.#compute = compute
  }

  run(key: string, feeds: Feeds, fetches?: readonly string[], memory: readonly ArrayBuffer[] = []): Promise<Answer> {
    const moved = structuredClone(feeds, { transfer: buffersOf(feeds) })
    return new Promise((resolve, reject) => {
      if (this.#lost !== undefined) return reject(new FlyweightError('inference_failed', `${this.name} is lost`))
      const settle = (end: () => void) => () => {
        this.held.splice(this.held.indexOf(held), 1)
        end()
      }
      const held: Held = {
        key,
        fetches,
        memory,
        answer: settle(() => {
          const all = this.#compute(key, moved)
          const outputs = Object.fromEntries(Object.entries(all).filter(([name]) => fetches?.includes(name) ?? true))
          const spent = buffersOf(moved)
          this.given.push(...buffersOf(outputs), ...spent)
          resolve({ outputs, runMs: 1, spent })
        }),
        fail: (error) => settle(() => reject(error))(),
      }
      this.held.push(held)
      this.most = Math.max(this.most, this.held.length)
    })
  }

  /** Dies as a lane does: what it had fails. */
  lose(reason: string): void {
    this.#lost = reason
    for (const held of [...this.held]) held.fail(new FlyweightError('inference_failed', `${this.name} is lost`))
    for (const listener of this.#listeners) listener(reason)
  }

  onLost(listener: Listener): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  load(): Promise<{ loadMs: number; residentBytes: number }> {
    return Promise.resolve({ loadMs: 0, residentBytes: 0 })
  }

  async unload(): Promise<void> {}

  async close(): Promise<void> {}
}

export class SessionHost implements StageHost {
  readonly name = 'cpu'
  readonly #sessions = new Map<string, Session>()

  async load(key: string, file: string): Promise<{ loadMs: number; residentBytes: number }> {
    this.#sessions.set(key, await openSession(file, { optimization: 'disabled' }))
    return { loadMs: 0, residentBytes: 0 }
  }

  async run(key: string, feeds: Feeds, fetches?: readonly string[]): Promise<Answer> {
    return { outputs: await this.#sessions.get(key)!.run(feeds, fetches), runMs: 0, spent: [] }
  }

  async unload(key: string): Promise<void> {
    await this.#sessions.get(key)?.release()
    this.#sessions.delete(key)
  }

  async close(): Promise<void> {
    for (const key of [...this.#sessions.keys()]) await this.unload(key)
  }

  onLost(): () => void {
    return () => {}
  }
}

function buffersOf(tensors: Feeds): ArrayBuffer[] {
  return [...new Set(Object.values(tensors).flatMap(({ data }) => (Array.isArray(data) ? [] : [data.buffer])))]
}

/** A few turns of the event loop, in which promises settle. */
export async function turns(count = 3): Promise<void> {
  for (let turn = 0; turn < count; turn++) await new Promise((resolve) => setImmediate(resolve))
}

/** `rows` rows of two numbers that tell which row of which run they are. */
export function rowsOf(run: number, rows: number): Tensor {
  return floats(
    [rows, 2],
    Array.from({ length: rows * 2 }, (_, index) => run * 1000 + index),
  )
}
