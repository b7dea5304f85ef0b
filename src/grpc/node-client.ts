// Calls to another node's gRPC server, each as a promise. What its gateway refused comes back as the error that it
// threw there; what went wrong on the way is told apart, for whoever watches the node.
import { Client, credentials, Metadata, status, type ClientUnaryCall, type ServiceError } from '@grpc/grpc-js'
import { FlyweightError } from '../errors.js'
import { presentKey } from './key.js'
import { inferenceService } from './proto.js'
import { GATEWAY_KEY } from './stage-node.js'
import { errorOf } from './status.js'

/** Of an answer, under way before some of it must have been read; the default of HTTP/2 is 64 KiB. */
const WINDOW_BYTES = 4 * 2 ** 20

/** The node did not answer: nobody knows whether the call arrived. */
export class Unreachable extends Error {}

export interface NodeClientOptions {
  /** `host:port`. */
  address: string
  /** sharding.key of the node. */
  key: string
  /** Names this gateway to the node. */
  gateway: string
}

export class NodeClient {
  readonly #client: Client
  readonly #metadata = new Metadata()
  readonly #pending = new Set<ClientUnaryCall>()

  constructor({ address, key, gateway }: NodeClientOptions) {
    this.#client = new Client(address, credentials.createInsecure(), {
      'grpc.max_receive_message_length': -1,
      'grpc.max_send_message_length': -1,
      'grpc-node.flow_control_window': WINDOW_BYTES,
      // A connection of its own, without the waiting times of others that failed, and past no proxy.
      'grpc.use_local_subchannel_pool': 1,
      'grpc.enable_http_proxy': 0,
      'grpc.enable_retries': 0,
    })
    presentKey(this.#metadata, key)
    this.#metadata.set(GATEWAY_KEY, gateway)
  }

  /**
   * @param timeoutMs default: none
   * @throws FlyweightError as the node's gateway threw it; Unreachable
   */
  call(method: string, request: object, timeoutMs = Infinity): Promise<object> {
    const { path, requestSerialize, responseDeserialize } = inferenceService[method]!
    return new Promise((resolve, reject) => {
      const deadline = timeoutMs === Infinity ? Infinity : Date.now() + timeoutMs
      const done = (error: ServiceError | null, response?: object) => {
        this.#pending.delete(call)
        if (error === null) resolve(response!)
        else reject(this.#failure(method, error))
      }
      const call = this.#client.makeUnaryRequest(path, requestSerialize, responseDeserialize, request, this.#metadata, { deadline }, done)
      this.#pending.add(call)
    })
  }

  /** Cancels what is pending, which rejects with Unreachable, and gives up the connection. */
  close(): void {
    for (const call of this.#pending) call.cancel()
    this.#client.close()
  }

  #failure(method: string, error: ServiceError): Error {
    const told = errorOf(error)
    if (told !== undefined) return told
    // The library's own limits, of either side.
    if (error.code === status.RESOURCE_EXHAUSTED) return new FlyweightError('too_large', `${method}: ${error.details}`)
    return new Unreachable(`${method}: ${status[error.code]}: ${error.details}`, { cause: error })
  }
}
