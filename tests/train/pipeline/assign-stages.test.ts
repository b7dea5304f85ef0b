// Where networks are cut for training.
import { expect, it } from 'vitest'
import { usedTensors } from '#flyweight/onnx/graph.js'
import { buildNetwork } from '#flyweight/train/networks.js'
import { assignStages } from '#flyweight/train/pipeline/assign-stages.js'
import { observeTensors } from '#flyweight/train/tensors.js'
import { trainingForm, startOf } from '#flyweight/train/training-form.js'
import { noise } from '../../onnx/running.js'

/** The nodes of a network of equal layers, as steps have them. */
async function forwardOf(hidden: number[]) {
  const model = buildNetwork({ kind: 'mlp', hidden }, { input: { name: 'x', dims: [32] }, output: { name: 'scores', classes: 32 } }, 1)
  const batch = { x: noise([16, 32], 1) }
  const form = await trainingForm(model, { batch })
  const observed = { ...model, graph: form.graph }
  return { nodes: form.graph.node, tensors: await observeTensors(observed, { ...batch, ...startOf(form) }) }
}

it('divides equal layers evenly, and never has a stage read of a later one', async () => {
  const forward = await forwardOf([32, 32, 32, 32, 32])
  for (const stages of [1, 2, 3, 6]) {
    const assigned = assignStages(forward, stages)
    const products = forward.nodes.filter(({ opType }) => opType === 'Gemm').map(({ output }) => assigned.get(output[0] as string))
    expect(products).toEqual(Array.from({ length: 6 }, (_, layer) => Math.floor((layer * stages) / 6)))
    for (const node of forward.nodes) {
      for (const name of usedTensors(node)) expect(assigned.get(name) ?? 0).toBeLessThanOrEqual(assigned.get(node.output[0] as string) as number)
    }
    expect(assignStages(forward, stages)).toEqual(assigned)
  }
})

it('counts what layers compute, not how many there are', async () => {
  const forward = await forwardOf([8, 8, 8, 256, 256])
  const assigned = assignStages(forward, 2)
  const products = forward.nodes.filter(({ opType }) => opType === 'Gemm').map(({ output }) => assigned.get(output[0] as string))
  expect(products.slice(0, 4)).toEqual([0, 0, 0, 0])
  expect(products.at(-1)).toBe(1)
})
