// Frames in parts: Redis takes values up to 512 MB, and a small message should not wait behind a whole large one. Each part
// says who sent it, and which of how many it is.
//
//   4 bytes "FWP1" | 4 bytes part | 4 bytes parts | 4 bytes length of the sender | sender | bytes     (little-endian)
import { FlyweightError } from '../errors.js'

const PART_BYTES = 4 * 2 ** 20

const MAGIC = Buffer.from('FWP1')
const FIXED_BYTES = 16

/** A frame cut into parts, in the order in which they must be sent. */
export function cutFrame(from: string, frame: Buffer, partBytes = PART_BYTES): Buffer[] {
  const sender = Buffer.from(from)
  const parts = Math.max(1, Math.ceil(frame.length / partBytes))
  return Array.from({ length: parts }, (_, part) => {
    const head = Buffer.alloc(FIXED_BYTES)
    head.set(MAGIC)
    head.writeUInt32LE(part, 4)
    head.writeUInt32LE(parts, 8)
    head.writeUInt32LE(sender.length, 12)
    return Buffer.concat([head, sender, frame.subarray(part * partBytes, (part + 1) * partBytes)])
  })
}

export interface Joined {
  from: string
  frame: Buffer
}

/**
 * Puts parts together; those of different senders may come mixed.
 * @returns a function that takes the next part and gives the frame that it completes
 */
export function partJoiner(): (bytes: Buffer) => Joined | undefined {
  const open = new Map<string, Buffer[]>()
  return (bytes) => {
    const { from, part, parts, body } = read(bytes)
    const before = open.get(from) ?? []
    open.delete(from)
    // A sender that was cut off in the middle begins anew.
    if (part === 0) before.length = 0
    if (part !== before.length || part >= parts) throw damaged(`got part ${part + 1} of ${parts} from ${from}, expected part ${before.length + 1}`)
    before.push(body)
    if (before.length === parts) return { from, frame: before.length === 1 ? body : Buffer.concat(before) }
    open.set(from, before)
    return undefined
  }
}

function read(bytes: Buffer): { from: string; part: number; parts: number; body: Buffer } {
  if (bytes.length < FIXED_BYTES || !bytes.subarray(0, MAGIC.length).equals(MAGIC)) throw damaged(`got ${bytes.length} bytes that are no part of a message`)
  const end = FIXED_BYTES + bytes.readUInt32LE(12)
  if (end > bytes.length) throw damaged(`got ${bytes.length} bytes, which end within the name of the sender`)
  return { from: bytes.toString('utf8', FIXED_BYTES, end), part: bytes.readUInt32LE(4), parts: bytes.readUInt32LE(8), body: bytes.subarray(end) }
}

function damaged(detail: string): FlyweightError {
  return new FlyweightError('malformed', `a message between machines is damaged: ${detail}`)
}
