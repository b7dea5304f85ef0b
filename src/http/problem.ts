// Every error answer: RFC 9457 problem+json from the one table of errors, with the `error` member that
// clients of the v2 protocol read. Framework errors are translated here; nothing else writes an error.
import { STATUS_CODES } from 'node:http'
import type { Socket } from 'node:net'
import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify'
import { FlyweightError, type ErrorCode, type FieldError } from '../errors.js'
import { describe } from '../wire/describe.js'

export const PROBLEM_TYPE = 'application/problem+json'

export interface Problem {
  type: string
  title: string
  status: number
  detail: string
  instance: string
  code: ErrorCode
  errors?: readonly FieldError[]
  /** The detail again: v2 clients read this member. */
  error: string
}

/** Codes for errors that Fastify raises before a handler runs; others by their status. */
const FRAMEWORK_CODES: Readonly<Record<string, ErrorCode>> = {
  FST_ERR_CTP_BODY_TOO_LARGE: 'too_large',
  FST_REQ_FILE_TOO_LARGE: 'too_large',
  FST_FILES_LIMIT: 'too_large',
  FST_FIELDS_LIMIT: 'too_large',
  FST_PARTS_LIMIT: 'too_large',
  FST_INVALID_MULTIPART_CONTENT_TYPE: 'unsupported_media',
  ERR_STREAM_PREMATURE_CLOSE: 'cancelled',
}
const STATUS_ERRORS: Readonly<Record<number, ErrorCode>> = {
  404: 'not_found',
  405: 'method_not_allowed',
  413: 'too_large',
  415: 'unsupported_media',
  503: 'draining',
}

/** Anything thrown as an error of the table: framework errors by code or status, the rest as `internal` without its text. */
function toFlyweightError(error: unknown, { headers }: FastifyRequest): FlyweightError {
  if (error instanceof FlyweightError) return error
  const { code = '', statusCode = 500, message } = (error ?? {}) as Partial<FastifyError>
  if (code === 'FST_ERR_CTP_INVALID_MEDIA_TYPE') {
    const detail = `is ${describe(headers['content-type'])}, which is not accepted here`
    return new FlyweightError('unsupported_media', `Content-Type ${detail}`, { errors: [{ pointer: '/headers/content-type', detail }], cause: error })
  }
  const known = FRAMEWORK_CODES[code] ?? STATUS_ERRORS[statusCode] ?? (statusCode >= 400 && statusCode < 500 ? 'malformed' : undefined)
  if (known !== undefined) return new FlyweightError(known, message ?? '', { cause: error })
  return new FlyweightError('internal', 'an unexpected error; the log of the gateway has it under this request id', { cause: error })
}

export function problemOf(error: FlyweightError, requestId: string): Problem {
  return {
    type: `urn:flyweight:error:${error.code}`,
    title: error.title,
    status: error.status,
    detail: error.message,
    instance: `urn:flyweight:request:${requestId}`,
    code: error.code,
    ...(error.errors.length === 0 ? {} : { errors: error.errors }),
    error: error.message,
  }
}

/** The error handler of every scope: logs what is the gateway's fault, answers with the problem. */
export function answerProblem(thrown: unknown, request: FastifyRequest, reply: FastifyReply): void {
  const error = toFlyweightError(thrown, request)
  if (error.code === 'internal') request.log.error({ err: error.cause, reqId: request.id, method: request.method, url: request.url }, 'request failed')
  sendProblem(error, request, reply)
}

/** v2 has no 422: bad input is 400 there. */
export function answerProblemV2(thrown: unknown, request: FastifyRequest, reply: FastifyReply): void {
  const error = toFlyweightError(thrown, request)
  answerProblem(error.status === 422 ? new FlyweightError('malformed', error.message, { errors: error.errors, cause: error }) : error, request, reply)
}

function sendProblem(error: FlyweightError, request: FastifyRequest, reply: FastifyReply): void {
  if (error.retryAfterS !== undefined) reply.header('retry-after', String(Math.max(1, Math.ceil(error.retryAfterS))))
  reply
    .code(error.status)
    .type(PROBLEM_TYPE)
    .send(JSON.stringify(problemOf(error, request.id)))
}

/** Answers what is not HTTP at all: the request never became one, so it is written to the socket. */
export function answerUnreadable(error: Error & { code?: string }, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy()
    return
  }
  const timedOut = error.code === 'ERR_HTTP_REQUEST_TIMEOUT'
  const tooLarge = error.code === 'HPE_HEADER_OVERFLOW'
  const status = timedOut ? 408 : tooLarge ? 431 : 400
  const detail = timedOut ? 'the request did not arrive in time' : tooLarge ? 'the headers are too large' : 'this is not an HTTP request'
  const body = JSON.stringify({ ...problemOf(new FlyweightError('malformed', detail), 'none'), status })
  const head = [
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}`,
    `Content-Type: ${PROBLEM_TYPE}`,
    `Content-Length: ${Buffer.byteLength(body)}`,
    'Connection: close',
  ]
  socket.end(`${head.join('\r\n')}\r\n\r\n${body}`)
}
