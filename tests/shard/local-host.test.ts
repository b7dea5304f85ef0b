// Stages on threads of this process: one that dies in the middle of a run, and the one WebGPU device.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { afterAll, afterEach, beforeAll, expect, it, vi } from 'vitest'
import { loadModel } from '#flyweight/onnx/load.js'
import { observeTensors } from '#flyweight/runtime/observe-tensors.js'
import { openSession } from '#flyweight/runtime/session.js'
import { saveStages } from '#flyweight/shard/files.js'
import { LocalHost } from '#flyweight/shard/local-host.js'
import { Pipeline, type PipelineStage } from '#flyweight/shard/pipeline.js'
import type { Stage } from '#flyweight/shard/stages.js'
import { largestDifference, noise } from '../onnx/running.js'
import { path } from './models.js'
import { cutObserved, evenly, runWhole, type Feeds, type Model } from './stages.js'

let folder: string
let files: string[]
let model: Model
let stages: Stage[]
let hosts: LocalHost[] = []
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'flyweight-local-host-'))
  model = await loadModel(path('tests/fixtures/digits_vit.onnx'))
  stages = cutObserved(model, evenly(model, 2), await observeTensors(model, [digits(1), digits(2)]))
  files = (await saveStages(stages, folder)).map((name) => join(folder, name))
})
afterEach(async () => {
  vi.restoreAllMocks()
  await Promise.all(hosts.map((host) => host.close()))
  hosts = []
})
afterAll(() => rm(folder, { recursive: true }))

function digits(rows: number, seed = 1): Feeds {
  return { x: noise([rows, 1, 28, 28], seed) }
}

function open(device: string): LocalHost {
  const host = new LocalHost({ device })
  hosts.push(host)
  return host
}

async function pipelineOn(...devices: string[]): Promise<{ pipeline: Pipeline; placed: PipelineStage[] }> {
  const placed = stages.map(({ inputs, outputs }, index) => ({ key: `digits/${index}`, host: open(devices[index]!), inputs, outputs }))
  for (const [index, { key, host }] of placed.entries()) await host.load(key, files[index]!)
  return { pipeline: new Pipeline({ stages: placed, inputs: ['x'], outputs: ['logits'], batchable: true, microBatch: 2 }), placed }
}

/** Ends the thread that the `nth` run of a stage is sent to, instead of sending it. */
function killOnRun(key: string, nth: number): void {
  const post = Worker.prototype.postMessage
  let runs = 0
  vi.spyOn(Worker.prototype, 'postMessage').mockImplementation(function (this: Worker, ...message) {
    const { op, key: to } = message[0] as { op?: string; key?: string }
    if (op !== 'run' || to !== key || ++runs !== nth) return post.apply(this, message)
    void this.terminate()
  })
}

it('a thread that dies takes along the runs that need it, and another one takes its place', async () => {
  const { pipeline, placed } = await pipelineOn('cpu:0', 'cpu:1')
  const [expected] = await runWhole(model, [digits(6)], 'all')
  const lost: string[] = []
  placed[1]!.host.onLost((reason) => lost.push(reason))
  // Three micro-batches a run: the third run loses its second.
  killOnRun('digits/1', 8)
  const early = [await pipeline.run(digits(6)), await pipeline.run(digits(6))]
  const late = await Promise.allSettled([pipeline.run(digits(6)), pipeline.run(digits(6))])
  for (const { outputs } of early) expect(largestDifference(outputs, expected!)).toBeLessThan(1e-5)
  for (const result of late) expect(result).toMatchObject({ status: 'rejected', reason: { code: 'inference_failed' } })
  expect(lost).toHaveLength(1)
  // What the other thread still had of them counts until it is through.
  await vi.waitFor(() => expect(pipeline.inFlight).toBe(0))

  const successor = open('cpu:1')
  await successor.load('digits/1', files[1]!)
  pipeline.replace(placed[1]!.host, successor)
  expect(largestDifference((await pipeline.run(digits(6))).outputs, expected!)).toBeLessThan(1e-5)
  const told = vi.fn<(reason: string) => void>()
  placed[1]!.host.onLost(told)
  expect(told).toHaveBeenCalledWith(lost[0])
})

it('closing is not a loss', async () => {
  const host = open('cpu:3')
  const told = vi.fn<(reason: string) => void>()
  host.onLost(told)
  await host.close()
  expect(told).not.toHaveBeenCalled()
  await expect(host.load('a', files[0]!)).rejects.toMatchObject({ code: 'inference_failed' })
})

it('refuses a second WebGPU device in one process', async () => {
  const first = open('webgpu:0')
  expect(() => open('webgpu:1')).toThrow(expect.objectContaining({ code: 'invalid_config', message: expect.stringContaining('beside "webgpu:0"') }))
  await first.close()
  open('webgpu:0')
})

it('a stage on WebGPU and one on the CPU make a pipeline', async ({ skip }) => {
  const missing = await openSession(path('tests/fixtures/digits_vit.onnx'), { device: 'webgpu:0' }).then(
    (session) => session.release().then(() => undefined),
    (error: Error) => error.message.slice(-160),
  )
  if (missing !== undefined) skip(`no WebGPU device: ${missing}`)
  const { pipeline } = await pipelineOn('webgpu:0', 'cpu:0')
  const [expected] = await runWhole(model, [digits(3)], 'all')
  expect(largestDifference((await pipeline.run(digits(3))).outputs, expected!)).toBeLessThan(1e-4)
})
