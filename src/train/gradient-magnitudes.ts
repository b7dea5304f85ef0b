// How large the gradients of a model's loss are over given rows, without training it: what pruning judges weights by.
// Molchanov et al., "Importance Estimation for Neural Network Pruning" (2019): in a model that is trained, gradients
// cancel over many rows, and their mean says nothing; their squares do not.
import { Emitter } from '../onnx/emitter.js'
import { model as makeModel, node, valueInfo } from '../onnx/builder.js'
import { tensorNames } from '../onnx/names.js'
import { encodeModel } from '../onnx/proto.js'
import { openSession } from '../runtime/session.js'
import type { Tensor } from '../tensor/tensor.js'
import { emitBackward } from './backward.js'
import type { EmitLoss } from './step.js'
import { observeTensors } from './tensors.js'
import { startOf, trainingForm, type Model } from './training-form.js'

export interface GradientMagnitudesOptions {
  model: Model
  /** Names of float32 initializers of the outermost graph. */
  parameters: readonly string[]
  /** Batches of one shape, at least one: the model's inputs, and what the loss reads beside them. */
  batches: Iterable<Record<string, Tensor>>
  loss: EmitLoss
  threads: number
  signal?: AbortSignal | undefined
}

/**
 * The root mean square, over the batches, of the loss' gradient by each element of each parameter, with normalization as
 * in inference.
 * @throws FlyweightError `invalid_model` for an operator that cannot be trained through
 */
export async function gradientMagnitudes({
  model,
  parameters,
  batches,
  loss: emitLoss,
  threads,
  signal,
}: GradientMagnitudesOptions): Promise<Map<string, Float32Array>> {
  const sums = new Map<string, Float32Array>()
  let count = 0
  let run: ((batch: Record<string, Tensor>) => Promise<Record<string, Tensor>>) | undefined
  let release = async (): Promise<void> => {}
  try {
    for (const batch of batches) {
      signal?.throwIfAborted()
      if (run === undefined) ({ run, release } = await openBackward({ model, parameters, emitLoss, batch, threads }))
      const gradients = await run(batch)
      for (const [index, name] of parameters.entries()) {
        const values = gradients[outputName(index)]?.data as Float32Array
        const sum = sums.get(name) ?? new Float32Array(values.length)
        for (let at = 0; at < sum.length; at++) sum[at] = (sum[at] as number) + (values[at] as number) ** 2
        sums.set(name, sum)
      }
      count += 1
    }
  } finally {
    await release()
  }
  for (const sum of sums.values()) for (let at = 0; at < sum.length; at++) sum[at] = Math.sqrt((sum[at] as number) / count)
  return sums
}

const outputName = (index: number) => `gradient::${index}`

async function openBackward({
  model,
  parameters,
  emitLoss,
  batch,
  threads,
}: {
  model: Model
  parameters: readonly string[]
  emitLoss: EmitLoss
  batch: Record<string, Tensor>
  threads: number
}): Promise<{ run: (batch: Record<string, Tensor>) => Promise<Record<string, Tensor>>; release: () => Promise<void> }> {
  const form = await trainingForm(model, { batch, parameters, statistics: 'running' })
  const weights = startOf(form)
  const inputs = new Map(form.graph.input.map((info) => [info.name, info]))
  for (const [name, { dtype, dims }] of Object.entries(batch)) inputs.set(name, valueInfo(name, dtype, dims))
  const around = { inputs: [...inputs.values()], outputs: [] }
  const forward = makeModel({ ...around, nodes: form.graph.node, initializers: form.graph.initializer })
  const emit = new Emitter(tensorNames(forward))
  const loss = emitLoss(emit, await observeTensors(forward, { ...batch, ...weights }))
  const nodes = [...form.graph.node, ...emit.nodes]
  const tensors = await observeTensors(makeModel({ ...around, nodes, initializers: [...form.graph.initializer, ...emit.initializers] }), {
    ...batch,
    ...weights,
  })
  const gradients = emitBackward({ nodes, loss, wanted: parameters, tensors, emit })
  for (const [index, name] of parameters.entries()) emit.nodes.push(node('Identity', [gradients.get(name) as string], [outputName(index)]))
  const backward = makeModel({
    ...around,
    outputs: parameters.map((name, index) => valueInfo(outputName(index), 'float32', tensors.dims(name))),
    nodes: [...form.graph.node, ...emit.nodes],
    initializers: [...form.graph.initializer, ...emit.initializers],
  })
  const session = await openSession(encodeModel(backward), { threads })
  return { run: (rows) => session.run({ ...rows, ...weights }), release: () => session.release() }
}
