// The process behind inspectModel: one model, one verdict, then it ends. Started by fork, never
// imported; its imports are kept few because every upload waits for its start.
import { FlyweightError, messageOf } from '../errors.js'
import { checkLimits } from '../onnx/limits.js'
import { loadModel } from '../onnx/load.js'
import { summarize } from '../onnx/summary.js'
import { proveBatching } from './batch-proof.js'
import type { Inspection, ProbationMessage, ProbationTask } from './probation.js'
import { warmRuntime } from './warm-runtime.js'
import { openSession } from './session.js'

process.once('message', (task: ProbationTask) => {
  void inspect(task)
    .then((inspection): ProbationMessage => ({ inspection }))
    .catch((error: unknown): ProbationMessage => ({ error: { code: 'invalid_model', detail: describe(error, task.file) } }))
    .then((verdict) => process.send?.(verdict, () => process.disconnect()))
})

async function inspect({ file, samples }: ProbationTask): Promise<Inspection> {
  await enter('reading the file')
  const { opset, parameters, operators } = await readSummary(file)
  await warmRuntime('cpu')
  await enter('loading it into the runtime')
  const before = process.memoryUsage.rss()
  const start = performance.now()
  const session = await openSession(file)
  const loadMs = performance.now() - start
  await enter('running it')
  const { batchable, notes } = await proveBatching(session, samples)
  const residentBytes = Math.max(0, process.memoryUsage.rss() - before)
  await session.release()
  const { inputs, outputs } = session
  return { signature: { inputs, outputs, batchable, opset, parameters, operators }, loadMs, residentBytes, notes }
}

/** In a function of its own, so that the decoded weights are garbage before the runtime loads them again. */
async function readSummary(file: string) {
  const model = await loadModel(file)
  checkLimits(model)
  return summarize(model)
}

/** Told before each step that may crash natively, and flushed: afterwards it is too late. */
async function enter(phase: string): Promise<void> {
  await new Promise<void>((resolve) => process.send?.({ phase } satisfies ProbationMessage, () => resolve()))
}

function describe(error: unknown, file: string): string {
  if (error instanceof FlyweightError) return error.message
  return `the runtime cannot load it: ${withoutPlaces(messageOf(error), file)}`
}

/** What the runtime says without what tells a user nothing: where the file lies here, and which C++ function complains. */
function withoutPlaces(message: string, file: string): string {
  return message
    .replace(`Load model from ${file} failed:`, '')
    .replace(/^\/onnxruntime_src\/.*?\)(?: const)? (?=[A-Z])/, '')
    .trim()
}
