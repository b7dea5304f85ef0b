// A body made of parts: copied together when small, streamed one after the other when large.
import { Readable } from 'node:stream'
import type { FastifyReply } from 'fastify'
import type { InferResult } from '../serving/request.js'

/** Above this, copying costs more than a stream; and the copies, outside of V8's heap, make it collect garbage far too often. */
const LARGE_BYTES = 64 * 1024

/** Sends the parts as one body; headers other than the length must be set already. */
export function sendParts(reply: FastifyReply, parts: readonly Buffer[]): FastifyReply {
  const length = parts.reduce((sum, part) => sum + part.byteLength, 0)
  if (length <= LARGE_BYTES) return reply.send(Buffer.concat(parts))
  return reply.header('content-length', length).send(Readable.from(parts))
}

/** Frees the outputs once the system has every byte of the answer. Where the client leaves before, they stay until the garbage collector comes by. */
export function releaseWhenSent(reply: FastifyReply, { release }: Pick<InferResult, 'release'>): void {
  reply.raw.once('finish', release)
}
