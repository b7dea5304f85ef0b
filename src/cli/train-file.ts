// `flyweight train file.onnx`: trains a model in a file further, or a student on what it answers, without a gateway.
import { readFile, writeFile } from 'node:fs/promises'
import { trainingPlot } from '../chart/training-plot.js'
import { openGroup } from '../cluster/group.js'
import { FlyweightError, messageOf } from '../errors.js'
import { makeStudent, type FoundStudent } from '../jobs/students.js'
import { trainingData } from '../jobs/training-data.js'
import { loadModel, saveModel } from '../onnx/load.js'
import { loadSamples, SAMPLE_FORMATS } from '../registry/samples.js'
import { inspectModel } from '../runtime/probation.js'
import { loadCheckpoint, saveCheckpoint } from '../train/checkpoint.js'
import { completeSettings } from '../train/settings.js'
import type { StudentSpec } from '../train/students.js'
import { runTraining } from '../train/training.js'
import { redisUrl } from './config-file.js'
import { checkFolderOf, outputOf, sha256 } from './output-file.js'
import type { Terminal } from './terminal.js'
import { settingsOf, studentOf, type TrainFlags } from './training-flags.js'
import { trainingLines } from './training-report.js'

/** @throws FlyweightError for a model, data or settings that cannot be used */
export async function trainFile(terminal: Terminal, file: string, flags: TrainFlags): Promise<void> {
  if (flags.data === undefined) throw new FlyweightError('invalid_input', `--data is missing, expected ${SAMPLE_FORMATS}`)
  const settings = completeSettings(await settingsOf(flags), '--settings')
  const found = flags.student === undefined ? undefined : await studentFile(studentOf(flags.student))
  const outputFor = await outputOf(file, flags.out)
  for (const flag of ['plot', 'checkpoint'] as const) if (flags[flag] !== undefined) await checkFolderOf(flags[flag], `--${flag}`)
  const { signature } = await inspectModel(file)
  const samples = await loadSamples(flags.data, signature)
  if (samples === undefined) throw new FlyweightError('invalid_input', `--data: there is nothing to train on at ${flags.data}, expected ${SAMPLE_FORMATS}`)
  const model = await loadModel(file)
  const subject = sha256(JSON.stringify([sha256(await readFile(file)), samples.digest, found ?? null, settings]))
  const { batchable } = signature
  const student = found === undefined ? undefined : await makeStudent(found, { teacher: model, samples, batchable, threads: 1 })
  const { checkpoint } = flags
  const redis = settings.parallel.group === undefined ? undefined : redisUrl(flags)
  const resume = checkpoint === undefined ? undefined : await loadCheckpoint(checkpoint, subject)
  const bar = terminal.bar()
  const start = performance.now()
  try {
    const result = await runTraining({
      model,
      output: signature.outputs[0]?.name ?? '',
      data: trainingData(samples, signature.outputs[0]),
      ...(student === undefined ? {} : { student }),
      settings,
      threads: 1,
      openGroup: redis === undefined ? undefined : (own, parallel) => openGroup(own, parallel, { redis, log: (line) => terminal.complain(line) }),
      ...(resume === undefined ? {} : { resume }),
      onProgress: ({ fraction, loss, epoch, point }) => {
        const share = point?.heldOut.accuracy
        bar.update(
          fraction,
          `epoch ${epoch.toFixed(1)}, loss ${loss.toPrecision(4)}${share === undefined ? '' : `, ${(100 * share).toFixed(1)} % right`}`,
          etaOf(start, fraction),
        )
        if (!terminal.interactive && point !== undefined) terminal.json({ fraction, ...point })
      },
      ...(checkpoint === undefined ? {} : { onCheckpoint: (state) => saveCheckpoint(checkpoint, subject, state) }),
    })
    bar.stop()
    const out = outputFor(student === undefined ? 'trained' : 'student')
    await saveModel(result.model, out)
    if (flags.plot !== undefined) await writeFile(flags.plot, trainingPlot(result.curve))
    const { model: _model, ...told } = result
    if (!terminal.interactive) terminal.json({ out, ...told })
    else for (const line of [...trainingLines(result), '', `wrote ${out}`]) terminal.print(line)
  } finally {
    bar.stop()
  }
}

/** A model is a file here. */
async function studentFile(spec: StudentSpec): Promise<FoundStudent> {
  if (spec.kind !== 'model') return spec
  const bytes = await readFile(spec.model).catch((cause: unknown) => {
    throw new FlyweightError('invalid_input', `--student: got model ${spec.model}, expected a file that can be read: ${messageOf(cause)}`, { cause })
  })
  return { kind: 'file', file: spec.model, digest: sha256(bytes) }
}

function etaOf(start: number, fraction: number): number | undefined {
  return fraction > 0.01 ? ((performance.now() - start) / 1000) * (1 / fraction - 1) : undefined
}
