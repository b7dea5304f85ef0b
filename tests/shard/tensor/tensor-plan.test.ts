// What parts cost, on a made-up model of one block; and that shares of real layers are counted once.
import { describe, expect, it } from 'vitest'
import { node } from '#flyweight/onnx/builder.js'
import { planOfParts } from '#flyweight/shard/tensor/tensor-plan.js'
import { observeTensors } from '#flyweight/runtime/observe-tensors.js'
import { dataflow } from '#flyweight/shard/dataflow.js'
import { tensorShards } from '#flyweight/shard/tensor/tensor-shards.js'
import type { Workload } from '#flyweight/shard/stage-costs.js'
import { noise } from '../../onnx/running.js'
import { network, type BlockShape } from './networks.js'
import { storedBytes } from './parts.js'

const origin = (tensor: string, share = 1) => ({ tensor, share })
const [around, layer] = [node('Relu', ['x'], ['a']), node('MatMul', ['a', 'w'], ['y'])]
const costs = { msOf: (each: unknown) => (each === layer ? 8 : 1), bytesOf: (tensor: string) => (tensor === 'y' ? 300 : 100) }
const part = (rank: number, at: number, { inputs, outputs, share }: { inputs: string[]; outputs: string[]; share: number }) => ({
  ...{ rank, part: at, inputs, outputs, weightBytes: 80 * share },
  shares: new Map([[around, 1] as const, ...(share < 1 ? [[layer, share] as const] : [])]),
  origins: new Map([...inputs, ...outputs].map((name) => [name, name.startsWith('y') && name !== 'y' ? origin('y') : origin(name)])),
})
const parts = [
  part(0, 0, { inputs: ['x'], outputs: ['y.0'], share: 0.75 }),
  part(0, 1, { inputs: ['x'], outputs: ['y.1'], share: 0.25 }),
  part(1, 0, { inputs: ['y.0', 'y.1'], outputs: ['z'], share: 1 }),
]

describe('planOfParts', () => {
  it('takes as long as the slowest part of each rank, and a message for each', () => {
    const devices = [{ name: 'a', speed: 2 }, { name: 'b' }]
    const plan = planOfParts(parts, costs, { devices, msPerByte: 0.01, msPerHop: 0.5, microBatches: 1 })
    expect(plan.stages.map(({ device, computeMs, transferMs }) => [device, computeMs, transferMs])).toEqual([
      ['a', 3.5, 4],
      ['b', 3, 4],
      ['a', 0.5, 7],
    ])
    expect(plan.latencyMs).toBe(7.5 + 7.5 + 1)
    // Device a has two of the stages.
    expect(plan.intervalMs).toBe(15)
    expect(plan.crossingBytes).toBe(600)
    expect(plan.bubbleShare).toBeCloseTo(1 - (15 + 7) / (2 * 16))
  })
})

describe('tensorShards', () => {
  const blocks: BlockShape[] = [
    { kind: 'attention', heads: 4, depth: 4, projection: 'three', bias: true, norm: 'before', residual: true },
    { kind: 'feed-forward', inner: 64, layer: 'MatMul', activation: 'Gelu', bias: true, norm: 'before', residual: true },
  ]
  const shards = async (count: number, { budgetBytes = Infinity, msPerHop = 0, inner = 64, others = 0 } = {}) => {
    const model = network(16, [blocks[0]!, { ...blocks[1]!, inner } as BlockShape])
    const flow = dataflow(model)
    const work: Workload = {
      nodes: flow.nodes.map(({ opType }) => ({ ms: opType === 'MatMul' ? 2 : 0.1, weights: [] })),
      weights: [storedBytes(model) + others],
      values: flow.values.map(({ producer, consumers, output }) => ({ producer, consumers, output, bytes: 100 })),
    }
    const observed = await observeTensors(model, [{ x: noise([1, 3, 16]) }, { x: noise([2, 3, 16]) }])
    const devices = Array.from({ length: count }, (_, index) => ({ name: `cpu:${index}`, budgetBytes }))
    return { flow, bytes: storedBytes(model), ...tensorShards(model, { flow, observed, work, devices, msPerHop, microBatches: 4 }) }
  }

  it('computes each node once in all, or once a part', async () => {
    for (const count of [2, 3, 4]) {
      const { flow, stages } = await shards(count)
      const totals = new Map<string, number>()
      for (const { shares } of stages) for (const [each, share] of shares) totals.set(each.output[0]!, (totals.get(each.output[0]!) ?? 0) + share)
      for (const each of flow.nodes) {
        const total = totals.get(each.output[0]!)!
        if (each.opType === 'MatMul') expect(total).toBeCloseTo(1)
        else expect(total).toBeGreaterThan(0.999)
      }
    }
  })

  it('lowers the latency with each device where messages take little, and the weights of each', async () => {
    const [two, four] = [await shards(2), await shards(4)]
    const plans = [two.plan, four.plan]
    expect(plans[1]!.latencyMs).toBeLessThan(plans[0]!.latencyMs)
    const held = plans.map(({ stages }) => stages.filter(({ device }) => device === 'cpu:0').reduce((sum, { weightBytes }) => sum + weightBytes, 0))
    expect(held[0]).toBeLessThan(two.bytes * 0.55)
    expect(held[1]).toBeLessThan(two.bytes * 0.3)
  })

  it('refuses models of which little can be cut', async () => {
    const { bytes } = await shards(2)
    await expect(shards(2, { others: 5 * bytes })).rejects.toMatchObject({
      code: 'invalid_plan',
      message: expect.stringMatching(/^only \d+ of the model's \d+ bytes/),
    })
  })

  it('cuts more than pays where budgets ask for it, and says what does not fit', async () => {
    // The attention block and the other one take some 13 and 4 ms; only the first gains more than 3 ms by halves.
    const inner = 2
    const paying = await shards(2, { msPerHop: 3, inner })
    expect(Math.max(...paying.plan.stages.map(({ rank }) => rank))).toBe(1)
    const held = (plan: typeof paying.plan) => plan.stages.filter(({ part: at }) => at === 0).reduce((sum, { weightBytes }) => sum + weightBytes, 0)
    const fitting = await shards(2, { msPerHop: 3, inner, budgetBytes: held(paying.plan) - 1 })
    expect(Math.max(...fitting.plan.stages.map(({ rank }) => rank))).toBe(2)
    await expect(shards(2, { inner, budgetBytes: held(fitting.plan) - 500 })).rejects.toMatchObject({
      code: 'invalid_plan',
      message: expect.stringMatching(/do not fit 2 parts: cpu:0 would have to hold \d+ bytes/),
    })
  })
})
