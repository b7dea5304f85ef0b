// This node as a device of other gateways: stages that they send are kept in the artifact store and run as they are,
// on a thread of their own, beside the node's own models and in none of their lists. A stage is held for whoever
// loaded it, as long as a call of theirs came in the last minute.
import { FlyweightError } from '../errors.js'
import type { ArtifactStore } from '../registry/artifact-store.js'
import type { LaneRun } from '../runtime/lane.js'
import { freeOutputs } from '../runtime/free-outputs.js'
import type { StageHost } from '../shard/stage-host.js'
import { dtypes, type DType, type Tensor } from '../tensor/tensor.js'
import { rawBytes, readRaw } from '../wire/binary.js'
import { checkShape, inputError } from '../wire/signature.js'
import type { CallContext } from './call.js'
import { checkKey } from './key.js'
import type { InferRequestMessage, InferResponseMessage, InputTensor, RepositoryRequest } from './messages.js'
import { toParameters } from './parameters.js'
import { releaseWhenWritten } from './proto.js'
import { digestIn, StageUploads } from './stage-upload.js'

/** Key of the metadata that says which gateway calls. */
export const GATEWAY_KEY = 'flyweight-gateway'
/** double, in the answer of a stage: milliseconds inside the runtime. */
export const RUN_MS = 'run_ms'

export interface StageNodeOptions {
  store: ArtifactStore
  /** Shared with the gateways; empty: no stages are taken. */
  key: string
  /** Of one stage. */
  maxStageBytes: number
  /** Opens the device that stages run on; called when there is none or it was lost. */
  openHost(): StageHost
  /** Silence after which a gateway's stages are unloaded; default a minute. */
  leaseMs?: number
}

interface Held {
  loading: Promise<unknown>
  gateways: Set<string>
}

const LEASE_MS = 60_000
const dtypeOfV2 = new Map(Object.entries(dtypes).map(([dtype, { v2 }]) => [v2 as string, dtype as DType]))

export class StageNode {
  readonly #options: StageNodeOptions
  readonly #uploads: StageUploads
  readonly #held = new Map<string, Held>()
  /** When each gateway last called; performance.now(). */
  readonly #seen = new Map<string, number>()
  readonly #sweeping: NodeJS.Timeout
  #host: StageHost | undefined

  constructor(options: StageNodeOptions) {
    this.#options = options
    this.#uploads = new StageUploads(options.store, options.maxStageBytes)
    const leaseMs = options.leaseMs ?? LEASE_MS
    this.#sweeping = setInterval(() => void this.#sweep(leaseMs), leaseMs / 4).unref()
  }

  /** Notes that a gateway lives, where the call has the key. */
  greet({ metadata }: CallContext): void {
    if (metadata.get(GATEWAY_KEY).length > 0) this.#caller(metadata)
  }

  isLoaded(name: string): boolean {
    return this.#held.has(name)
  }

  /**
   * Loads a stage that is here, or takes (a part of) one that is sent.
   * @throws FlyweightError `forbidden`, `unauthorized`; `model_not_found` for one that was not sent yet; what the runtime says of it
   */
  async load({ model_name: name, parameters }: RepositoryRequest, { metadata }: CallContext): Promise<void> {
    const gateway = this.#caller(metadata)
    const digest = digestIn(name)
    if (digest === undefined)
      throw inputError('/model_name', `is ${JSON.stringify(name)}, expected stage-<SHA-256> with files; other models come from the node's own folder`)
    const sent = Object.keys(parameters).length > 0
    const artifact = sent ? await this.#uploads.take(`${gateway} ${name}`, digest, parameters) : await this.#options.store.find(digest)
    if (artifact !== undefined) return this.#load(name, artifact.file, gateway)
    if (!sent) throw new FlyweightError('model_not_found', `there is no ${name} here; send it as file:1/model.onnx`)
  }

  /** Nothing happens when it is not loaded. @throws FlyweightError `forbidden`, `unauthorized` */
  async unload({ model_name: name }: RepositoryRequest, { metadata }: CallContext): Promise<void> {
    await this.#release(name, this.#caller(metadata))
  }

  /** Runs a stage as it is: no batching, no variants. @throws FlyweightError `model_not_found` for one that is not loaded, else what the runtime says */
  async infer(request: InferRequestMessage, { metadata }: CallContext): Promise<InferResponseMessage> {
    this.#caller(metadata)
    const { model_name: name, id } = request
    const held = this.#held.get(name)
    await held?.loading
    if (held === undefined || this.#host === undefined) throw new FlyweightError('model_not_found', `${name} is not loaded here`)
    const fetches = request.outputs.map((output) => output.name)
    const { outputs, runMs } = await this.#host.run(name, feedsOf(request), fetches.length === 0 ? undefined : fetches)
    return responseOf(outputs, { name, id, runMs })
  }

  async close(): Promise<void> {
    clearInterval(this.#sweeping)
    await this.#host?.close()
  }

  /** Who calls, having the key. */
  #caller(metadata: CallContext['metadata']): string {
    checkKey(metadata, this.#options.key)
    const gateway = String(metadata.get(GATEWAY_KEY)[0] ?? '')
    this.#seen.set(gateway, performance.now())
    return gateway
  }

  async #load(name: string, file: string, gateway: string): Promise<void> {
    let held = this.#held.get(name)
    if (held === undefined) {
      held = { loading: this.#openHost().load(name, file), gateways: new Set() }
      this.#held.set(name, held)
    }
    held.gateways.add(gateway)
    try {
      await held.loading
    } catch (error) {
      if (this.#held.get(name) === held) this.#held.delete(name)
      throw error
    }
  }

  #openHost(): StageHost {
    if (this.#host !== undefined) return this.#host
    const host = this.#options.openHost()
    this.#host = host
    host.onLost(() => {
      if (this.#host !== host) return
      // Gateways learn it from the next call, and load what they need.
      this.#host = undefined
      this.#held.clear()
    })
    return host
  }

  async #release(name: string, gateway: string): Promise<void> {
    await this.#uploads.drop(`${gateway} ${name}`)
    const held = this.#held.get(name)
    if (held?.gateways.delete(gateway) !== true || held.gateways.size > 0) return
    this.#held.delete(name)
    await this.#host?.unload(name)
  }

  async #sweep(leaseMs: number): Promise<void> {
    const silent = [...this.#seen].flatMap(([gateway, at]) => (performance.now() - at > leaseMs ? [gateway] : []))
    for (const gateway of silent) {
      this.#seen.delete(gateway)
      for (const name of this.#held.keys()) await this.#release(name, gateway)
      for (const id of this.#uploads.ids()) if (id.startsWith(`${gateway} `)) await this.#uploads.drop(id)
    }
  }
}

/** A stage's inputs as their datatypes and shapes say: whether they fit is for the runtime to say. */
function feedsOf({ inputs, raw_input_contents: raw }: InferRequestMessage): Record<string, Tensor> {
  if (raw.length !== inputs.length) throw inputError('/raw_input_contents', `has ${raw.length} entries, expected one for each of the ${inputs.length} inputs`)
  return Object.fromEntries(inputs.map((input, index) => [input.name, tensorOf(input, raw[index] as Uint8Array, index)]))
}

function tensorOf({ name, datatype, shape }: InputTensor, bytes: Uint8Array, index: number): Tensor {
  const dtype = dtypeOfV2.get(datatype)
  if (dtype === undefined) throw inputError(`/inputs/${index}/datatype`, `is ${JSON.stringify(datatype)}, expected one of ${[...dtypeOfV2.keys()].join(', ')}`)
  const spec = { name, dtype, dims: shape.map(() => -1) }
  return readRaw(spec, checkShape(spec, shape.map(Number), `/inputs/${index}/shape`), bytes, `/raw_input_contents/${index}`)
}

function responseOf(outputs: LaneRun['outputs'], { name, id, runMs }: { name: string; id: string; runMs: number }): InferResponseMessage {
  const entries = Object.entries(outputs)
  const response: InferResponseMessage = {
    model_name: name,
    model_version: '1',
    id,
    parameters: toParameters({ [RUN_MS]: runMs }),
    outputs: entries.map(([output, { dtype, dims }]) => ({ name: output, datatype: dtypes[dtype].v2, shape: dims })),
    raw_output_contents: entries.map(([, tensor]) => rawBytes(tensor)),
  }
  return releaseWhenWritten(response, { release: () => freeOutputs(outputs) })
}
