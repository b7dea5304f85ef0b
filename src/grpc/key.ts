// The key that a gateway and the nodes which hold stages for it share: `authorization: Bearer <key>` in a call's
// metadata. The connection is not encrypted: it belongs into a network that others do not read.
import { createHash, timingSafeEqual } from 'node:crypto'
import type { Metadata } from '@grpc/grpc-js'
import { FlyweightError } from '../errors.js'

const SCHEME = 'Bearer '

/** @param key of this node; empty: it takes no stages. @throws FlyweightError `forbidden` without a key here, `unauthorized` for another one */
export function checkKey(metadata: Metadata, key: string): void {
  if (key === '') throw new FlyweightError('forbidden', 'this node takes no stages: sharding.key is not set in its configuration')
  const [given] = metadata.get('authorization')
  if (typeof given === 'string' && given.startsWith(SCHEME) && equal(given.slice(SCHEME.length), key)) return
  throw new FlyweightError('unauthorized', `authorization is ${given === undefined ? 'missing' : 'another'}, expected "${SCHEME}" and this node's sharding.key`)
}

/** Sets what checkKey expects. */
export function presentKey(metadata: Metadata, key: string): void {
  if (key !== '') metadata.set('authorization', `${SCHEME}${key}`)
}

/** In the same time wherever they differ: digests are compared, which have one length. */
function equal(one: string, other: string): boolean {
  const digest = (text: string) => createHash('sha256').update(text).digest()
  return timingSafeEqual(digest(one), digest(other))
}
