// Stages on two nodes, each a process of its own, one of which is killed under load: this process places the stages,
// runs the pipeline, and places them anew on what is left.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, expect, it, vi } from 'vitest'
import { FlyweightError } from '#flyweight/errors.js'
import { RemoteHost } from '#flyweight/grpc/remote-host.js'
import { model, node, tensorProto, valueInfo } from '#flyweight/onnx/builder.js'
import { encodeModel } from '#flyweight/onnx/proto.js'
import { parseDevices } from '#flyweight/shard/device-spec.js'
import { Pipeline } from '#flyweight/shard/pipeline.js'
import { placeStages } from '#flyweight/shard/placement.js'
import { StageDevices } from '#flyweight/shard/stage-devices.js'
import type { StageHost } from '#flyweight/shard/stage-host.js'
import { startNodeProcess, type NodeProcess } from './processes.js'

const KEY = 'shared by all'
const CLIENTS = 6
const ANSWERS = 200

const folder = mkdtempSync(join(tmpdir(), 'flyweight-stages-'))
const rows = (name: string) => valueInfo(name, 'float32', ['n', 4])
/** y = 3 x + 1, one node a stage. */
const stages = [
  { inputs: ['x'], outputs: ['h'], weight: 3, op: 'Mul' },
  { inputs: ['h'], outputs: ['y'], weight: 1, op: 'Add' },
].map(({ inputs, outputs, weight, op }, index) => ({ inputs, outputs, weight, op, file: join(folder, `stage-${index}.onnx`) }))
beforeAll(() => {
  for (const { inputs, outputs, weight, op, file } of stages) {
    const nodes = [node(op, [inputs[0]!, 'w'], outputs)]
    const proto = model({ inputs: inputs.map(rows), outputs: outputs.map(rows), nodes, initializers: [tensorProto('w', 'float32', [1], [weight])] })
    writeFileSync(file, encodeModel(proto))
  }
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

let nodes: NodeProcess[] = []
let devices: StageDevices | undefined
afterEach(async () => {
  await devices?.close()
  await Promise.all(nodes.splice(0).map((each) => each.stop()))
})

/** The stages on the devices that are there, as planned where possible. */
async function place(from: StageDevices, planned: readonly string[]): Promise<Pipeline> {
  const names = placeStages(
    planned.map((name) => ({ bytes: 4, ms: 1, planned: name })),
    from.live().map(({ name }) => ({ name })),
  )
  const hosts = names.map((name) => from.host(name) as StageHost)
  await Promise.all(hosts.map((host, index) => host.load(`stage ${index}`, stages[index]!.file)))
  const placed = stages.map(({ inputs, outputs }, index) => ({ inputs, outputs, key: `stage ${index}`, host: hosts[index]! }))
  return new Pipeline({ stages: placed, inputs: ['x'], outputs: ['y'], batchable: true })
}

it('answers every request rightly or refuses it with a reason, and answers again soon after a node was killed', async () => {
  nodes = await Promise.all([startNodeProcess(KEY), startNodeProcess(KEY)])
  const names = nodes.map(({ device }) => device)
  devices = new StageDevices({ devices: parseDevices(names), open: (device) => RemoteHost.connect({ device, key: KEY }) })
  await devices.tried
  const all = devices

  let pipeline: Promise<Pipeline> | undefined
  const run = async (value: number): Promise<number[]> => {
    const current = (pipeline ??= place(all, names))
    try {
      const { outputs } = await (await current).run({ x: { dtype: 'float32', dims: [1, 4], data: new Float32Array(4).fill(value) } })
      return [...(outputs['y']!.data as Float32Array)]
    } catch (error) {
      if (pipeline === current) pipeline = undefined
      throw error
    }
  }
  const outcomes: { startedAt: number; endedAt: number; code: string }[] = []
  let stopped = false
  const client = async (first: number) => {
    for (let value = first; !stopped; value++) {
      const startedAt = performance.now()
      const code = await run(value).then(
        (answer) => (answer.every((each) => each === value * 3 + 1) ? 'ok' : `wrong: ${answer.join(', ')}`),
        (thrown: unknown) => (thrown instanceof FlyweightError ? thrown.code : String(thrown)),
      )
      outcomes.push({ startedAt, endedAt: performance.now(), code })
      // As a client does that was refused.
      if (code !== 'ok') await new Promise((resolve) => setTimeout(resolve, 20))
    }
  }
  const clients = Promise.all(Array.from({ length: CLIENTS }, (_, i) => client(i)))
  const answered = (since: number) => outcomes.filter(({ code, startedAt }) => code === 'ok' && startedAt > since)
  await vi.waitFor(() => expect(answered(0).length).toBeGreaterThan(ANSWERS), { timeout: 20_000 })
  const killedAt = performance.now()
  nodes[0]!.child.kill('SIGKILL')
  await vi.waitFor(() => expect(answered(killedAt).length).toBeGreaterThan(ANSWERS), { timeout: 20_000 })
  stopped = true
  await clients

  const failed = outcomes.filter(({ code }) => code !== 'ok')
  const seconds = (Math.min(...answered(killedAt).map(({ endedAt }) => endedAt)) - killedAt) / 1000
  console.info(`${outcomes.length} requests, ${failed.length} of them refused; answered again ${seconds.toFixed(2)} s after the kill`)
  expect([...new Set(failed.map(({ code }) => code))].filter((code) => code !== 'inference_failed' && code !== 'invalid_plan')).toEqual([])
  expect(all.live().map(({ name }) => name)).toEqual([names[1]])
  expect(seconds).toBeLessThan(20)
}, 90_000)
