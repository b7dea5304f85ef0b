// Sound that passes for speech: a pulsed voice through the resonances of vowels, with hissed consonants between.
// After D. H. Klatt, Software for a cascade/parallel formant synthesizer (1980), much reduced.

/** Samples a second. */
export const RATE = 16_000
/** First three resonances in Hz, after Peterson and Barney (1952). */
const VOWELS = [
  [730, 1090, 2440],
  [270, 2290, 3010],
  [300, 870, 2240],
  [530, 1840, 2480],
  [570, 840, 2410],
  [660, 1720, 2410],
]
const BANDWIDTHS = [80, 90, 150]
const LEVELS = [1, 0.6, 0.4]
/** Share of a pulse in which the glottis is open. */
const OPEN = 0.6

/** `length` samples within −0.5..0.5: syllables of one voice, by `random`. */
export function speech(length, random) {
  const sound = new Float32Array(length)
  const pitch = 90 + random() * 130
  const size = 0.9 + 0.2 * random()
  for (let at = 0; at < length; ) {
    const vowel = sung(Math.floor(RATE * (0.08 + random() * 0.14)), { pitch: pitch * (0.9 + 0.2 * random()), size, random })
    at += place(sound, vowel, at)
    if (random() < 0.7) at += place(sound, hissed(Math.floor(RATE * 0.05), random), at)
  }
  const peak = sound.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
  return sound.map((value) => (value / peak) * 0.5)
}

function place(sound, part, at) {
  sound.set(part.subarray(0, sound.length - at), at)
  return Math.min(part.length, sound.length - at)
}

function sung(length, { pitch, size, random }) {
  const formants = VOWELS[Math.floor(random() * VOWELS.length)].map((frequency, index) => resonator(frequency * size, BANDWIDTHS[index]))
  let [phase, before] = [0, 0]
  return Float32Array.from({ length }, (_, i) => {
    phase = (phase + (pitch * (1 - (0.1 * i) / length)) / RATE) % 1
    const opening = phase < OPEN ? 3 * (phase / OPEN) ** 2 - 2 * (phase / OPEN) ** 3 : 0
    const flow = opening - before + 0.01 * (random() - 0.5)
    before = opening
    const voice = formants.reduce((sum, formant, index) => sum + LEVELS[index] * formant(flow), 0)
    return voice * Math.min(1, i / 400, (length - i) / 600)
  })
}

function hissed(length, random) {
  return Float32Array.from({ length }, (_, i) => 0.05 * (random() - 0.5) * Math.min(1, i / 100, (length - i) / 100))
}

/** A second-order filter with one resonance; frequency and bandwidth in Hz. */
function resonator(frequency, bandwidth) {
  const radius = Math.exp((-Math.PI * bandwidth) / RATE)
  const [b, c] = [2 * radius * Math.cos((2 * Math.PI * frequency) / RATE), -radius * radius]
  let [last, older] = [0, 0]
  return (value) => {
    const next = (1 - b - c) * value + b * last + c * older
    older = last
    last = next
    return next
  }
}
