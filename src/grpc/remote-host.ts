// Another Flyweight node as a device for stages: what a pipeline asks of a stage host, over the node's gRPC server.
// A node is lost when it stops answering, or has forgotten a stage that it held; lost is lost, and whoever owns the
// host opens another, once the node answers again.
import { randomUUID } from 'node:crypto'
import { FlyweightError, messageOf } from '../errors.js'
import { compactModel, type CompactModel } from '../onnx/compact-data.js'
import type { LaneRun } from '../runtime/lane.js'
import type { StageHost } from '../shard/stage-host.js'
import { dtypes, type DType, type Tensor } from '../tensor/tensor.js'
import { rawBytes, readRaw } from '../wire/binary.js'
import type { InferResponseMessage, Parameters } from './messages.js'
import { NodeClient, Unreachable } from './node-client.js'
import { RUN_MS } from './stage-node.js'
import { FILE_PREFIX, MORE, OFFSET, stageName } from './stage-upload.js'

/** Before the address in the names of remote devices. */
export const REMOTE_SCHEME = 'grpc://'

export interface RemoteHostOptions {
  /** `grpc://host:port`. */
  device: string
  /** sharding.key of the node. */
  key: string
}

/**
 * A node that is dead is noticed after these together at the latest. It is asked a second time: on a busy machine a
 * timer may fire before the answer that has come is read.
 */
const HEALTH = { everyMs: 400, timeoutMs: 1000, againMs: 500 }
const CLOSE_TIMEOUT_MS = 1000
/** A part of a stage that is sent: what gRPC servers take by default. */
const CHUNK_BYTES = 3 * 2 ** 20
const CALL_TIMEOUT_MS = 30_000
const LOAD_TIMEOUT_MS = 300_000

const dtypeOfV2 = new Map(Object.entries(dtypes).map(([dtype, { v2 }]) => [v2 as string, dtype as DType]))

export class RemoteHost implements StageHost {
  readonly name: string
  readonly #client: NodeClient
  /** Key of the caller → name of the stage on the node. */
  readonly #stages = new Map<string, string>()
  readonly #listeners = new Set<(reason: string) => void>()
  #health: NodeJS.Timeout | undefined
  #lost: string | undefined
  #closed = false

  /**
   * A host on a node that answers.
   * @throws FlyweightError `inference_failed` when it does not, `unauthorized` or `forbidden` when it takes no stages from here
   */
  static async connect(options: RemoteHostOptions): Promise<RemoteHost> {
    const host = new RemoteHost(options)
    try {
      await host.#greet()
      return host
    } catch (error) {
      await host.close()
      throw error instanceof Unreachable ? host.#gone(error.message) : error
    }
  }

  private constructor({ device, key }: RemoteHostOptions) {
    this.name = device
    // Stages are held for this host alone: one opened after it may hold the same.
    this.#client = new NodeClient({ address: device.slice(REMOTE_SCHEME.length), key, gateway: randomUUID() })
    this.#watch()
  }

  /** Sends the stage unless the node has it; its data is read from beside the file. `residentBytes` is what was sent. */
  async load(key: string, file: string): Promise<{ loadMs: number; residentBytes: number }> {
    const startedAt = performance.now()
    const stage = await compactModel(file)
    const name = stageName(stage.digest)
    await this.unload(key)
    // Before it is there: who unloads the same stage under another key meanwhile must leave it.
    this.#stages.set(key, name)
    try {
      await this.#asked(() => this.#obtain(name, stage))
    } catch (error) {
      this.#stages.delete(key)
      throw error
    }
    return { loadMs: performance.now() - startedAt, residentBytes: stage.bytes }
  }

  async run(key: string, feeds: Readonly<Record<string, Tensor>>, fetches: readonly string[] = []): Promise<LaneRun> {
    const name = this.#stages.get(key)
    if (name === undefined) throw new FlyweightError('inference_failed', `"${key}" is not loaded on ${this.name}`)
    const entries = Object.entries(feeds)
    const request = {
      model_name: name,
      inputs: entries.map(([input, { dtype, dims }]) => ({ name: input, datatype: dtypes[dtype].v2, shape: dims })),
      outputs: fetches.map((output) => ({ name: output })),
      raw_input_contents: entries.map(([, tensor]) => rawBytes(tensor)),
    }
    const response = (await this.#asked(() => this.#client.call('ModelInfer', request))) as InferResponseMessage
    const outputs = Object.fromEntries(response.outputs.map((output, index) => [output.name, tensorOf(output, response.raw_output_contents[index]!)]))
    return { outputs, runMs: response.parameters[RUN_MS]?.double_param ?? 0, spent: buffersOf(entries.map(([, tensor]) => tensor)) }
  }

  async unload(key: string): Promise<void> {
    const name = this.#stages.get(key)
    this.#stages.delete(key)
    if (name === undefined || [...this.#stages.values()].includes(name) || this.#lost !== undefined) return
    await this.#asked(() => this.#client.call('RepositoryModelUnload', { model_name: name }, CALL_TIMEOUT_MS))
  }

  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    clearTimeout(this.#health)
    const names = this.#lost === undefined ? new Set(this.#stages.values()) : []
    // What the node is not told now it finds out by silence.
    await Promise.allSettled([...names].map((name) => this.#client.call('RepositoryModelUnload', { model_name: name }, CLOSE_TIMEOUT_MS)))
    this.#client.close()
  }

  onLost(listener: (reason: string) => void): () => void {
    if (this.#lost !== undefined) listener(this.#lost)
    else this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  async #obtain(name: string, stage: CompactModel): Promise<void> {
    try {
      await this.#client.call('RepositoryModelLoad', { model_name: name }, LOAD_TIMEOUT_MS)
    } catch (error) {
      if (!(error instanceof FlyweightError) || error.code !== 'model_not_found') throw error
      await this.#send(name, stage)
    }
  }

  async #send(name: string, stage: CompactModel): Promise<void> {
    const send = (parameters: Parameters) => this.#client.call('RepositoryModelLoad', { model_name: name, parameters }, CALL_TIMEOUT_MS)
    const more: Parameters = { [MORE]: { bool_param: true } }
    for (const file of stage.files) {
      let offset = 0
      for await (const chunk of chunksOf(file.pieces(CHUNK_BYTES))) {
        await send({ [`${FILE_PREFIX}${file.name}`]: { bytes_param: chunk }, [OFFSET]: { int64_param: offset }, ...more })
        offset += chunk.byteLength
      }
    }
    await this.#client.call('RepositoryModelLoad', { model_name: name, parameters: { [MORE]: { bool_param: false } } }, LOAD_TIMEOUT_MS)
  }

  /** A node that does not answer a call is lost, and so is one that has forgotten a stage. */
  async #asked<Answer>(ask: () => Promise<Answer>): Promise<Answer> {
    if (this.#lost !== undefined) throw this.#gone(this.#lost)
    if (this.#closed) throw this.#gone('it was closed')
    try {
      return await ask()
    } catch (error) {
      if (error instanceof Unreachable) this.#lose(error.message)
      else if (error instanceof FlyweightError && error.code === 'model_not_found') this.#lose(error.message)
      else throw error
      throw this.#gone(this.#lost ?? messageOf(error))
    }
  }

  async #greet(): Promise<void> {
    try {
      await this.#client.call('ServerLive', {}, HEALTH.timeoutMs)
    } catch (error) {
      if (this.#closed || !(error instanceof Unreachable)) throw error
      await this.#client.call('ServerLive', {}, HEALTH.againMs)
    }
  }

  #watch(): void {
    this.#health = setTimeout(() => {
      this.#greet().then(
        () => this.#watch(),
        (error: unknown) => this.#lose(messageOf(error)),
      )
    }, HEALTH.everyMs)
    this.#health.unref()
  }

  #lose(reason: string): void {
    if (this.#lost !== undefined || this.#closed) return
    this.#lost = reason
    clearTimeout(this.#health)
    this.#client.close()
    for (const listener of this.#listeners) listener(reason)
    this.#listeners.clear()
  }

  #gone(reason: string): FlyweightError {
    return new FlyweightError('inference_failed', `node ${this.name} is gone: ${reason}`)
  }
}

/** Pieces of any size as chunks of CHUNK_BYTES; the last one may be smaller. */
async function* chunksOf(pieces: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let waiting: Uint8Array[] = []
  let bytes = 0
  for await (let piece of pieces) {
    while (bytes + piece.byteLength >= CHUNK_BYTES) {
      yield Buffer.concat([...waiting, piece.subarray(0, CHUNK_BYTES - bytes)])
      piece = piece.subarray(CHUNK_BYTES - bytes)
      waiting = []
      bytes = 0
    }
    waiting.push(piece)
    bytes += piece.byteLength
  }
  if (bytes > 0) yield Buffer.concat(waiting)
}

function tensorOf({ name, datatype, shape }: InferResponseMessage['outputs'][number], bytes: Uint8Array): Tensor {
  const dims = shape.map(Number)
  return readRaw({ name, dtype: dtypeOfV2.get(datatype)!, dims }, dims, bytes, `/${name}`)
}

function buffersOf(tensors: readonly Tensor[]): ArrayBuffer[] {
  return [...new Set(tensors.flatMap(({ data }) => (Array.isArray(data) ? [] : [data.buffer])))]
}
