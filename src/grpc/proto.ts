// The definitions in proto/, read once at the start: the service, and how its messages and those of errors are
// written. Nothing is generated at build time.
import { fileURLToPath } from 'node:url'
import { loadSync, type MessageTypeDefinition, type ServiceDefinition } from '@grpc/proto-loader'

const definitions = loadSync(['inference.proto', 'status.proto'], {
  includeDirs: [fileURLToPath(new URL('../../proto', import.meta.url))],
  keepCase: true,
  // 64-bit integers as text: a number would round them.
  longs: String,
  enums: String,
  defaults: true,
  oneofs: true,
})

const releases = new WeakMap<object, () => void>()

/** `inference.GRPCInferenceService`. */
export const inferenceService: ServiceDefinition = Object.fromEntries(
  Object.entries(definitions['inference.GRPCInferenceService'] as ServiceDefinition).map(([name, method]) => {
    const responseSerialize = (message: object): Buffer => {
      const bytes = method.responseSerialize(message)
      releases.get(message)?.()
      return bytes
    }
    return [name, { ...method, responseSerialize }]
  }),
)

/**
 * Has the memory behind a response freed when the response is bytes: writing copies it. One that is never written
 * leaves it to the garbage collector.
 * @param source an inference result, or a response that was given to this function before
 */
export function releaseWhenWritten<Response extends object>(response: Response, source: object | { release(): void }): Response {
  const release = 'release' in source ? source.release : releases.get(source)
  if (release !== undefined) releases.set(response, release)
  return response
}

/** Writes and reads a message of proto/ by its full name. */
export function messageType<Message extends object>(name: string): Pick<MessageTypeDefinition<Message, Message>, 'serialize' | 'deserialize'> {
  return definitions[name] as unknown as MessageTypeDefinition<Message, Message>
}
