// Sound for Silero VAD: stretches of synthesised speech between noise, tones and silence. Judged frame by frame with
// the model's state carried over, so that errors add up as they do in use.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { mulberry32 } from '#flyweight/runtime/sample-inputs.js'
import { openSession } from '#flyweight/runtime/session.js'
import { readNpy, writeNpy } from '#flyweight/tensor/npy.js'
import { writeNpz } from '#flyweight/tensor/npz.js'
import { RATE, speech } from '../speech.mjs'

/** Samples of a frame, and those of the frame before that it is heard with. */
const FRAME = 512
const CONTEXT = 64
const STRETCH_FRAMES = 48
const STRETCHES = { full: 32, quick: 12 }
const CALIBRATION_STRETCHES = 8
/** Every so many frames one is written as a sample, with the state that fp32 had there. */
const SAMPLE_EVERY = 4
/** Frames after a change that the model may take to notice it. */
const NOTICE_FRAMES = 6
const THRESHOLD = 0.5

export const hearing = {
  metric: 'frames told right as speech or not',
  async write(folder, { quick, file }) {
    const session = await openSession(file)
    try {
      const part = async (name, count, seed) => {
        const { audio, truth } = soundtrack(count, mulberry32(seed))
        mkdirSync(join(folder, name))
        await hear(session, audio, (feeds, frame) => {
          if (frame % SAMPLE_EVERY !== 0) return
          writeFileSync(join(folder, name, `${String(frame).padStart(5, '0')}.npz`), writeNpz(new Map(Object.entries(feeds)), { compress: false }))
        })
        return { audio, truth }
      }
      await part('calibration', CALIBRATION_STRETCHES, 808)
      const { audio, truth } = await part('evaluation', quick ? STRETCHES.quick : STRETCHES.full, 909)
      writeFileSync(join(folder, 'audio.npy'), writeNpy({ dtype: 'float32', dims: [audio.length], data: audio }))
      return truth
    } finally {
      await session.release()
    }
  },
  async answers(session, { folder }) {
    const { data } = readNpy(readFileSync(join(folder, 'audio.npy')), 'audio.npy')
    return hear(session, data)
  },
  accuracy: (answers, truth) => {
    const clear = answers.map((_, frame) => frame).filter((frame) => truth[frame] !== null)
    return clear.filter((frame) => answers[frame] > THRESHOLD === truth[frame]).length / clear.length
  },
  agreement: (answers, reference) => answers.filter((answer, frame) => answer > THRESHOLD === reference[frame] > THRESHOLD).length / answers.length,
}

/** Probability of speech, frame by frame, each state going into the next frame. */
async function hear(session, audio, onFrame = () => {}) {
  const probabilities = []
  let state = { dtype: 'float32', dims: [2, 1, 128], data: new Float32Array(256) }
  for (let frame = 0; (frame + 1) * FRAME <= audio.length; frame++) {
    const data = new Float32Array(CONTEXT + FRAME)
    const from = frame * FRAME - CONTEXT
    data.set(audio.subarray(Math.max(0, from), (frame + 1) * FRAME), Math.max(0, -from))
    const feeds = {
      input: { dtype: 'float32', dims: [1, CONTEXT + FRAME], data },
      state,
      sr: { dtype: 'int64', dims: [], data: BigInt64Array.of(BigInt(RATE)) },
    }
    onFrame(feeds, frame)
    const { output, stateN } = await session.run(feeds)
    probabilities.push(output.data[0])
    state = stateN
  }
  return probabilities
}

/** Every other stretch is speech; `truth` is one a frame, null where the model may still be noticing. */
function soundtrack(stretches, random) {
  const length = STRETCH_FRAMES * FRAME
  const audio = new Float32Array(stretches * length)
  const truth = []
  for (let index = 0; index < stretches; index++) {
    const spoken = index % 2 === 1
    audio.set(spoken ? speech(length, random) : unspoken(length, random), index * length)
    for (let frame = 0; frame < STRETCH_FRAMES; frame++) truth.push(frame < NOTICE_FRAMES ? null : spoken)
  }
  const hiss = 0.002 + 0.004 * random()
  return { audio: audio.map((value) => value + hiss * (2 * random() - 1)), truth }
}

function unspoken(length, random) {
  const kind = Math.floor(random() * 3)
  const loudness = 0.02 + 0.2 * random()
  if (kind === 0) return new Float32Array(length)
  if (kind === 1) return Float32Array.from({ length }, () => loudness * (2 * random() - 1))
  const pitch = 300 + 900 * random()
  const beat = RATE * (0.2 + 0.4 * random())
  return Float32Array.from({ length }, (_, i) => (Math.floor(i / beat) % 2) * loudness * Math.sin((2 * Math.PI * pitch * i) / RATE))
}
