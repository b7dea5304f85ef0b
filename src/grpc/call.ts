// What every call of the gRPC door has in common: when it came, its deadline, the signal that its client left,
// and that whatever a handler throws becomes a status. Streams answer in the order of their requests.
import { setMaxListeners } from 'node:events'
import type { handleBidiStreamingCall, handleUnaryCall, Metadata, sendUnaryData, ServerDuplexStream, ServerUnaryCall } from '@grpc/grpc-js'
import type { FlyweightError } from '../errors.js'
import { toFlyweightError, toServiceError } from './status.js'

/** pino's shape. */
export interface CallLog {
  error(details: object, message: string): void
}

export interface CallContext {
  metadata: Metadata
  /** Aborted when the client cancels, leaves, or its deadline passes. */
  signal: AbortSignal
  /** performance.now() when the message had come. */
  arrivedAt: number
  /** Until the call's own deadline, from `arrivedAt` on; Infinity without one. */
  remainingMs: number
}

export type Handler<Request, Response> = (request: Request, context: CallContext) => Response | Promise<Response>

/** Requests of one stream that are worked on at once; the stream is not read further meanwhile. */
const STREAM_WIDTH = 32

export function unary<Request, Response>(handler: Handler<Request, Response>, log: CallLog): handleUnaryCall<Request, Response> {
  const answer = async (call: ServerUnaryCall<Request, Response>, callback: sendUnaryData<Response>) => {
    let response: Response
    try {
      response = await handler(call.request, contextOf(call, signalOf(call)))
    } catch (thrown) {
      callback(toServiceError(logged(thrown, call.getPath(), log)))
      return
    }
    callback(null, response)
  }
  return (call, callback) => void answer(call, callback)
}

/**
 * @param failed makes the answer of a request that failed: the stream itself goes on
 */
export function bidirectional<Request, Response>(
  handler: Handler<Request, Response>,
  failed: (request: Request, error: FlyweightError) => Response,
  log: CallLog,
): handleBidiStreamingCall<Request, Response> {
  return (call) => {
    const signal = signalOf(call)
    // Each request that is open listens.
    setMaxListeners(STREAM_WIDTH + 1, signal)
    let open = 0
    let answered: Promise<void> = Promise.resolve()
    call.on('data', (request: Request) => {
      open += 1
      if (open >= STREAM_WIDTH) call.pause()
      const answer = attempt(handler, request, contextOf(call, signal)).catch((thrown: unknown) => failed(request, logged(thrown, call.getPath(), log)))
      answered = answered.then(async () => {
        await written(call, await answer, signal)
        open -= 1
        call.resume()
      })
    })
    call.on('end', () => void answered.then(() => call.end()))
  }
}

/** A handler that throws at once rejects. */
async function attempt<Request, Response>(handler: Handler<Request, Response>, request: Request, context: CallContext): Promise<Response> {
  return handler(request, context)
}

function contextOf(call: ServerUnaryCall<unknown, unknown> | ServerDuplexStream<unknown, unknown>, signal: AbortSignal): CallContext {
  return { metadata: call.metadata, signal, arrivedAt: performance.now(), remainingMs: Number(call.getDeadline()) - Date.now() }
}

function signalOf(call: ServerUnaryCall<unknown, unknown> | ServerDuplexStream<unknown, unknown>): AbortSignal {
  const controller = new AbortController()
  call.once('cancelled', () => controller.abort())
  if (call.cancelled) controller.abort()
  return controller.signal
}

/** Resolves when more can be written, or nobody reads any more. */
async function written<Response>(call: ServerDuplexStream<unknown, Response>, response: Response, signal: AbortSignal): Promise<void> {
  if (signal.aborted || call.write(response)) return
  await new Promise<void>((resolve) => {
    const done = () => {
      call.off('drain', done)
      signal.removeEventListener('abort', done)
      resolve()
    }
    call.once('drain', done)
    signal.addEventListener('abort', done)
  })
}

function logged(thrown: unknown, path: string, log: CallLog): FlyweightError {
  const error = toFlyweightError(thrown)
  if (error.code === 'internal') log.error({ err: error.cause, path }, 'call failed')
  return error
}
