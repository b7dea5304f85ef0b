// A training whose process is killed without warning, and goes on in another one.
import { fork } from 'node:child_process'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import type { JobMessage, JobTask } from '#flyweight/jobs/job-process.js'
import { runTrainJob, type TrainPayload } from '#flyweight/jobs/train-job.js'
import { encodeModel } from '#flyweight/onnx/proto.js'
import { inspectModel } from '#flyweight/runtime/probation.js'
import { writeNpz } from '#flyweight/tensor/npz.js'
import { buildNetwork } from '#flyweight/train/networks.js'
import { completeSettings } from '#flyweight/train/settings.js'
import { noise } from '../onnx/running.js'

let folder: string
beforeEach(async () => void (folder = await mkdtemp(join(tmpdir(), 'train-job-'))))
afterEach(() => rm(folder, { recursive: true }))

async function payload(): Promise<TrainPayload> {
  const sourceFile = join(folder, 'model.onnx')
  await writeFile(
    sourceFile,
    encodeModel(buildNetwork({ kind: 'mlp', hidden: [16] }, { input: { name: 'x', dims: [8] }, output: { name: 'scores', classes: 3 } }, 1)),
  )
  const rows = noise([300, 8], 2)
  const labels = BigInt64Array.from({ length: 300 }, (_, row) => BigInt(row % 3))
  const data = join(folder, 'rows.npz')
  await writeFile(
    data,
    writeNpz(
      new Map([
        ['x', rows],
        ['labels', { dtype: 'int64', dims: [300], data: labels }],
      ]),
    ),
  )
  const { signature } = await inspectModel(sourceFile)
  return {
    model: 'm',
    version: '1',
    sourceFile,
    sourceDigest: 'digest',
    signature,
    data,
    settings: completeSettings({ epochs: 40, batchSize: 16, optimizer: { kind: 'adamw' } }),
    as: 'm',
    threads: 1,
    storeRoot: join(folder, 'store'),
  }
}

const inProcess = { report: () => {}, publish: () => {}, signal: new AbortController().signal }

it.each([
  ['a model trained further', {}],
  ['a student', { student: { kind: 'mlp' as const, hidden: [6] } }],
])('%s goes on from its last epoch after a kill, to the same bits', async (_what, training) => {
  const task: TrainPayload = { ...(await payload()), ...training }
  const killed = fork(new URL('../../dist/jobs/job-process.js', import.meta.url))
  const ended = new Promise((resolve) => killed.once('exit', resolve))
  let epochs = 0
  killed.on('message', (message: JobMessage) => {
    if ('progress' in message && message.logLine !== undefined && ++epochs === 5) killed.kill('SIGKILL')
  })
  killed.send({ kind: 'train', payload: task } satisfies JobTask)
  await ended
  expect(epochs).toBeGreaterThanOrEqual(5)
  expect(epochs).toBeLessThan(40)
  expect((await readdir(join(task.storeRoot, 'checkpoints'))).some((file) => file.endsWith('.npz'))).toBe(true)

  const lines: string[] = []
  const resumed = await runTrainJob(task, { ...inProcess, log: (line) => void lines.push(line) })
  expect(lines[0]).toMatch(/^going on from step \d+$/)
  expect(lines.length - 1).toBeLessThan(40)
  const whole = await runTrainJob({ ...task, storeRoot: join(folder, 'other') }, { ...inProcess, log: () => {} })
  expect(resumed.curve).toEqual(whole.curve)
  expect(await readFile(resumed.file)).toEqual(await readFile(whole.file))
  expect(await readdir(join(task.storeRoot, 'checkpoints'))).toEqual([])
})
