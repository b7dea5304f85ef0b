// A model of the bench made ready: its file, its inputs to calibrate and to judge on, the right answers and fp32's.
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { saveModel } from '#flyweight/onnx/load.js'
import { loadSamples } from '#flyweight/registry/samples.js'
import { inspectModel } from '#flyweight/runtime/probation.js'
import { openSession } from '#flyweight/runtime/session.js'
import { models } from './cases.mjs'

/**
 * Writes what the cells of a model need into `folder`.
 * @returns the model's file, what it takes and gives, and the accuracy of fp32 where there is a task
 */
export async function prepareModel(name, folder, { quick }) {
  const { build, task } = models[name]
  const file = models[name].file ?? join(folder, 'source.onnx')
  if (build !== undefined) await saveModel(build(), file)
  const { signature } = await inspectModel(file)
  if (task === undefined) return { file, signature }
  const truth = await task.write(folder, { quick, file })
  const reference = await answersOfModel(name, file, { folder, evaluation: await evaluationSamples(folder, signature) })
  writeFileSync(join(folder, 'answers.json'), JSON.stringify({ truth, reference }))
  return { file, signature, accuracy: task.accuracy(reference, truth) }
}

export function evaluationSamples(folder, signature) {
  return loadSamples(join(folder, 'evaluation'), signature)
}

/** How right a variant's answers are, and how far they agree with fp32's: both 0 to 1. Nothing for a model without a task. */
export async function scoreVariant(name, file, { folder, evaluation }) {
  const { task } = models[name]
  if (task === undefined) return {}
  const { truth, reference } = JSON.parse(readFileSync(join(folder, 'answers.json'), 'utf8'))
  const answers = await answersOfModel(name, file, { folder, evaluation })
  return { accuracy: task.accuracy(answers, truth), agreement: task.agreement(answers, reference) }
}

async function answersOfModel(name, file, data) {
  const session = await openSession(file)
  try {
    return await models[name].task.answers(session, data)
  } finally {
    await session.release()
  }
}
