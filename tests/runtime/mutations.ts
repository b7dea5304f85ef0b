// Seeded damage to files: what fuzz tests feed to whatever reads untrusted bytes.

export interface Random {
  /** 0..limit-1. */
  below(limit: number): number
  byte(): number
}

/** Mulberry32: the same seed gives the same damage everywhere. */
export function seededRandom(seed: number): Random {
  let state = seed >>> 0
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
  const below = (limit: number) => Math.floor(next() * limit)
  return { below, byte: () => below(256) }
}

/** A damaged copy: one of a few byte flips, a truncation, or a stretch that is cut out, doubled, moved or overwritten. */
export function mutate(source: Uint8Array, random: Random): Uint8Array {
  switch (random.below(6)) {
    case 0:
      return flip(source, random, source.length)
    case 1:
      // Protobuf keeps structure (names, dims, types) at both ends of a model and weights in the middle.
      return flip(source, random, Math.min(400, source.length))
    case 2:
      return source.slice(0, random.below(source.length))
    case 3:
      return splice(source, random, new Uint8Array())
    case 4: {
      const from = random.below(source.length)
      return splice(source, random, source.slice(from, from + 1 + random.below(64)))
    }
    default:
      return splice(source, random, Uint8Array.from({ length: 1 + random.below(16) }, random.byte))
  }
}

/** One to eight changed bytes, all at the end or all at the start of the file, within `reach`. */
function flip(source: Uint8Array, random: Random, reach: number): Uint8Array {
  const copy = source.slice()
  const fromEnd = random.below(2) === 1
  for (let count = 1 + random.below(8); count > 0; count--) {
    const offset = random.below(reach)
    const at = fromEnd ? copy.length - 1 - offset : offset
    copy[at] = (copy[at] as number) ^ (1 << random.below(8))
  }
  return copy
}

/** Up to 32 bytes give way to `replacement`. */
function splice(source: Uint8Array, random: Random, replacement: Uint8Array): Uint8Array {
  const at = random.below(source.length)
  const removed = random.below(33)
  return Uint8Array.from([...source.subarray(0, at), ...replacement, ...source.subarray(at + removed)])
}
