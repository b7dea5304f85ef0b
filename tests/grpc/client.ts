// A client as others write it: grpc-js on the committed definitions, each call as a promise. It knows nothing of
// the server's code.
import { credentials, loadPackageDefinition, Metadata, type CallOptions, type ClientDuplexStream, type ServiceError } from '@grpc/grpc-js'
import { loadSync } from '@grpc/proto-loader'

const definition = loadSync(['proto/inference.proto', 'proto/status.proto'], { keepCase: true, longs: String, enums: String, defaults: true, oneofs: true })

interface Inference {
  GRPCInferenceService: new (address: string, credentials: unknown, options?: object) => Stub
}
type Stub = Record<string, (...args: unknown[]) => { cancel(): void }> & { close(): void }

/** Messages by field name, loosely: tests compare them to what is expected. */
// oxlint-disable-next-line typescript/no-explicit-any
export type Message = Record<string, any>

export interface CallExtras extends CallOptions {
  metadata?: Record<string, string>
  /** Called with the function that cancels the call. */
  started?: (cancel: () => void) => void
}

export interface TestClient {
  call(method: string, request: Message, extras?: CallExtras): Promise<Message>
  stream(): ClientDuplexStream<Message, Message>
  close(): void
}

export function connect(port: number): TestClient {
  const { GRPCInferenceService } = loadPackageDefinition(definition)['inference'] as unknown as Inference
  const stub = new GRPCInferenceService(`127.0.0.1:${port}`, credentials.createInsecure(), { 'grpc.max_receive_message_length': -1 })
  return {
    call: (method, request, { metadata = {}, started, ...options } = {}) =>
      new Promise((resolve, reject) => {
        const sent = new Metadata()
        for (const [key, value] of Object.entries(metadata)) sent.set(key, value)
        const done = (error: ServiceError | null, response: Message) => (error === null ? resolve(response) : reject(error))
        const call = stub[method]!(request, sent, options, done)
        started?.(() => call.cancel())
      }),
    stream: () => stub['ModelStreamInfer']!() as unknown as ClientDuplexStream<Message, Message>,
    close: () => stub.close(),
  }
}

/** The details of an error's trailing metadata by the names of their messages. */
export function detailsOf(error: ServiceError): Message {
  const read = (name: string, bytes: Buffer) => (definition[name] as unknown as { deserialize(bytes: Buffer): Message }).deserialize(bytes)
  const { details } = read('google.rpc.Status', error.metadata.get('grpc-status-details-bin')[0] as Buffer) as {
    details: { type_url: string; value: Buffer }[]
  }
  return Object.fromEntries(details.map(({ type_url, value }) => [type_url.split('.').at(-1), read(type_url.split('/')[1]!, value)]))
}
