// A node that holds a stage is killed under load: three processes, this one being the gateway.
import { afterEach, describe, expect, it, vi } from 'vitest'
import { FlyweightError } from '#flyweight/errors.js'
import type { Tensor } from '#flyweight/tensor/tensor.js'
import { startApp, type TestApp } from '../serving/app.js'
import { addSharded, affine } from './sharded.js'
import { startNodeProcess, type NodeProcess } from './processes.js'

const KEY = 'shared by all'
const CLIENTS = 6

let nodes: NodeProcess[] = []
let app: TestApp | undefined
afterEach(async () => {
  await app?.stop()
  app = undefined
  await Promise.all(nodes.splice(0).map((node) => node.stop()))
})

const row = (value: number): Record<string, Tensor> => ({ x: { dtype: 'float32', dims: [1, 4], data: new Float32Array(4).fill(value) } })

interface Outcome {
  startedAt: number
  endedAt: number
  /** `ok`, or the code of the error. */
  code: string
  /** Whether the answer was the right one. */
  right: boolean
}

/** Asks until told to stop, one request after the other in each of several clients. */
function load(gateway: TestApp): { outcomes: Outcome[]; stop(): Promise<void> } {
  const outcomes: Outcome[] = []
  let stopped = false
  const client = async (first: number) => {
    for (let value = first; !stopped; value++) {
      const startedAt = performance.now()
      try {
        const { outputs, release } = await gateway.infer('affine', { inputs: row(value), variant: 'sharded-2' })
        const right = [...(outputs['y']!.data as Float32Array)].every((each) => each === value * 3 + 1)
        release()
        outcomes.push({ startedAt, endedAt: performance.now(), code: 'ok', right })
      } catch (thrown) {
        outcomes.push({ startedAt, endedAt: performance.now(), code: thrown instanceof FlyweightError ? thrown.code : String(thrown), right: true })
        // As a client does that was refused.
        await new Promise((resolve) => setTimeout(resolve, 20))
      }
    }
  }
  const clients = Promise.all(Array.from({ length: CLIENTS }, (_, i) => client(i)))
  return {
    outcomes,
    stop: async () => {
      stopped = true
      await clients
    },
  }
}

describe('a node that is killed under load', () => {
  it('is replaced: every request is answered rightly or refused with a reason, and answers come again', async () => {
    nodes = await Promise.all([startNodeProcess(KEY), startNodeProcess(KEY)])
    const gateway = await startApp(
      { 'affine/1/model.onnx': affine, 'affine/model.yaml': 'policy: { onDemand: [] }\n' },
      { sharding: { key: KEY, devices: nodes.map(({ device }) => device) } },
    )
    app = gateway
    await addSharded(
      gateway,
      nodes.map(({ device }) => device),
    )
    const { outcomes, stop } = load(gateway)
    const answered = (since: number) => outcomes.filter(({ code, startedAt }) => code === 'ok' && startedAt > since)
    await vi.waitFor(() => expect(answered(0).length).toBeGreaterThan(200), { timeout: 20_000 })
    const killedAt = performance.now()
    nodes[0]!.child.kill('SIGKILL')
    await vi.waitFor(() => expect(answered(killedAt).length).toBeGreaterThan(200), { timeout: 20_000 })
    await stop()

    const failed = outcomes.filter(({ code }) => code !== 'ok')
    const seconds = (Math.min(...answered(killedAt).map(({ endedAt }) => endedAt)) - killedAt) / 1000
    console.info(
      `${outcomes.length} requests, ${failed.length} of them refused; the first that came after the kill was answered ${seconds.toFixed(2)} s after it`,
    )
    expect(failed.filter(({ code }) => code !== 'inference_failed')).toEqual([])
    expect(outcomes.every(({ right }) => right)).toBe(true)
    expect(seconds).toBeLessThan(20)
  }, 90_000)
})
