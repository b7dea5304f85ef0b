// Bodies of inference requests: collected as bytes whatever their type is called, decompressed within
// the body limit. And the signal that tells the gateway that the client left.
import { promisify } from 'node:util'
import { gunzip, inflate } from 'node:zlib'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { FlyweightError, messageOf } from '../errors.js'

const decoders = { gzip: promisify(gunzip), deflate: promisify(inflate) }

/**
 * Bytes of the request's body with its Content-Encoding undone.
 * @throws FlyweightError `unsupported_media` for another encoding, `malformed`, `too_large`
 */
export async function bodyOf(request: FastifyRequest, maxBytes: number): Promise<Buffer> {
  const body = Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0)
  const encoding = request.headers['content-encoding']
  if (encoding === undefined || encoding === 'identity') return body
  if (encoding !== 'gzip' && encoding !== 'deflate') {
    throw new FlyweightError('unsupported_media', `Content-Encoding is ${JSON.stringify(encoding)}, expected gzip, deflate or identity`)
  }
  try {
    return await decoders[encoding](body, { maxOutputLength: maxBytes })
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE') {
      throw new FlyweightError('too_large', `the body is larger than ${maxBytes} bytes when decompressed`, { cause })
    }
    throw new FlyweightError('malformed', `the body is not ${encoding}: ${messageOf(cause)}`, { cause })
  }
}

/** Aborted when the connection closes before the answer was written. */
export function clientSignal({ raw }: FastifyReply): AbortSignal {
  const controller = new AbortController()
  raw.once('close', () => {
    if (!raw.writableFinished) controller.abort()
  })
  return controller.signal
}
