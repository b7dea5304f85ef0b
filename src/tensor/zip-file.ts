// A zip file on disk, read in parts: its directory, and any range of a member without holding the member. Stored
// members are read in place; deflated ones are inflated forward from where the last read stopped, and from their
// start for a range before that. Format: PKWARE APPNOTE.TXT 6.3, with zip64 sizes, which NumPy writes.
import { closeSync, openSync, readSync } from 'node:fs'
import { Inflate } from 'fflate'

/** Reads `length` bytes from `offset` on. @throws RangeError when there are not that many */
export type ReadRange = (offset: number, length: number) => Uint8Array<ArrayBuffer>

export interface ZipMember {
  name: string
  /** Bytes when unpacked. */
  size: number
  read: ReadRange
}

const END_SIGNATURE = 0x06054b50
const END_BYTES = 22
const ZIP64_LOCATOR_SIGNATURE = 0x07064b50
const ZIP64_END_SIGNATURE = 0x06064b50
const ENTRY_SIGNATURE = 0x02014b50
const LOCAL_SIGNATURE = 0x04034b50
const [STORED, DEFLATED] = [0, 8]
const WIDE = 0xffffffff
/** Compressed bytes inflated at a time: what comes out may be a thousand times as much. */
const CHUNK_BYTES = 16 * 1024

/** Ranges of a file; opened for each read, so that nothing is left to close. */
export function fileRange(file: string): ReadRange {
  return (offset, length) => {
    const bytes = new Uint8Array(length)
    const handle = openSync(file, 'r')
    try {
      for (let at = 0; at < length; ) {
        const read = readSync(handle, bytes, at, length - at, offset + at)
        if (read === 0) throw new RangeError(`it ends at byte ${offset + at}, before ${offset + length}`)
        at += read
      }
    } finally {
      closeSync(handle)
    }
    return bytes
  }
}

/** The members of a zip of `size` bytes, in the order of its directory. @throws Error saying what is wrong with it */
export function readZipDirectory(read: ReadRange, size: number): ZipMember[] {
  const { offset, length, count } = findDirectory(read, size)
  const directory = viewOf(read(offset, length))
  const members: ZipMember[] = []
  for (let at = 0; members.length < count; ) {
    if (at + 46 > length || directory.getUint32(at, true) !== ENTRY_SIGNATURE) throw new Error('its directory is damaged')
    const [nameLength, extraLength, commentLength] = [
      directory.getUint16(at + 28, true),
      directory.getUint16(at + 30, true),
      directory.getUint16(at + 32, true),
    ]
    const name = textAt(directory, at + 46, nameLength)
    const wide = wideFields(directory, at + 46 + nameLength, extraLength)
    // Only fields that do not fit are in the extra field, in this order.
    const [unpacked, packed, start] = [at + 24, at + 20, at + 42].map((field) => {
      const value = directory.getUint32(field, true)
      return value === WIDE ? (wide.shift() ?? value) : value
    }) as [number, number, number]
    const method = directory.getUint16(at + 10, true)
    if ((directory.getUint16(at + 8, true) & 1) !== 0) throw new Error(`its member "${name}" is encrypted`)
    if (method !== STORED && method !== DEFLATED) throw new Error(`its member "${name}" is compressed by method ${method}, expected deflate or none`)
    const raw = memberRange(read, start)
    members.push({ name, size: unpacked, read: method === STORED ? raw : inflating(raw, packed) })
    at += 46 + nameLength + extraLength + commentLength
  }
  return members
}

function findDirectory(read: ReadRange, size: number): { offset: number; length: number; count: number } {
  // The end record is the last thing but a comment of at most 64 KiB.
  const tailStart = Math.max(0, size - END_BYTES - 0xffff)
  const tail = viewOf(read(tailStart, size - tailStart))
  let at = tail.byteLength - END_BYTES
  while (at >= 0 && tail.getUint32(at, true) !== END_SIGNATURE) at -= 1
  if (at < 0) throw new Error('it has no zip directory')
  const plain = { count: tail.getUint16(at + 10, true), length: tail.getUint32(at + 12, true), offset: tail.getUint32(at + 16, true) }
  if (plain.count !== 0xffff && plain.length !== WIDE && plain.offset !== WIDE) return checked(plain, size)
  const locator = at - 20
  if (locator < 0 || tail.getUint32(locator, true) !== ZIP64_LOCATOR_SIGNATURE) return checked(plain, size)
  const end = viewOf(read(Number(tail.getBigUint64(locator + 8, true)), 56))
  if (end.getUint32(0, true) !== ZIP64_END_SIGNATURE) throw new Error('its zip64 directory is damaged')
  const [count, length, offset] = [32, 40, 48].map((field) => Number(end.getBigUint64(field, true))) as [number, number, number]
  return checked({ count, length, offset }, size)
}

function checked<Directory extends { offset: number; length: number }>(directory: Directory, size: number): Directory {
  if (directory.offset + directory.length > size) throw new Error('its directory points beyond its end')
  return directory
}

/** The 64-bit numbers of a zip64 extra field (id 1); none where there is no such field. */
function wideFields(view: DataView, start: number, length: number): number[] {
  for (let at = start; at + 4 <= start + length; ) {
    const size = view.getUint16(at + 2, true)
    if (view.getUint16(at, true) === 1) {
      return Array.from({ length: Math.floor(size / 8) }, (_, index) => Number(view.getBigUint64(at + 4 + 8 * index, true)))
    }
    at += 4 + size
  }
  return []
}

/** Ranges of a member's bytes as they lie in the file, behind its local header. */
function memberRange(read: ReadRange, start: number): ReadRange {
  let dataStart: number | undefined
  return (offset, length) => {
    if (dataStart === undefined) {
      const header = viewOf(read(start, 30))
      if (header.getUint32(0, true) !== LOCAL_SIGNATURE) throw new Error('a member does not start where its directory says')
      dataStart = start + 30 + header.getUint16(26, true) + header.getUint16(28, true)
    }
    return read(dataStart + offset, length)
  }
}

function inflating(read: ReadRange, packedSize: number): ReadRange {
  const start = () => {
    const fresh = { inflate: new Inflate(), chunks: [] as Uint8Array[], position: 0, consumed: 0 }
    fresh.inflate.ondata = (chunk) => fresh.chunks.push(chunk)
    return fresh
  }
  let state = start()
  return (offset, length) => {
    if (offset < state.position) state = start()
    const bytes = new Uint8Array(length)
    for (let filled = 0; filled < length; ) {
      const [chunk] = state.chunks
      if (chunk === undefined) {
        if (state.consumed === packedSize) throw new RangeError(`it ends at byte ${state.position}, before ${offset + length}`)
        const count = Math.min(CHUNK_BYTES, packedSize - state.consumed)
        state.inflate.push(read(state.consumed, count), state.consumed + count === packedSize)
        state.consumed += count
        continue
      }
      const from = offset + filled - state.position
      const part = chunk.subarray(from, from + length - filled)
      bytes.set(part, filled)
      filled += part.length
      // What lies before the next byte wanted is not kept: reads go forward.
      if (from >= chunk.length || filled < length) {
        state.chunks.shift()
        state.position += chunk.length
      }
    }
    return bytes
  }
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

function textAt(view: DataView, start: number, length: number): string {
  return Buffer.from(view.buffer, view.byteOffset + start, length).toString('utf8')
}
