// Gradients of the sum of a graph's outputs at one point, for values that differences cannot check: kinks, zeros, masks.
import { Emitter } from '#flyweight/onnx/emitter.js'
import { model, valueInfo } from '#flyweight/onnx/builder.js'
import { tensorNames } from '#flyweight/onnx/names.js'
import type { NodeProto, TensorProto } from '#flyweight/onnx/proto.js'
import type { Tensor } from '#flyweight/tensor/tensor.js'
import { emitBackward } from '#flyweight/train/backward.js'
import { observeTensors } from '#flyweight/train/tensors.js'
import { run } from '../onnx/running.js'

/** By each float input, the gradient's values, −0 as 0; the loss is the sum of the first output of the last node. */
export async function gradientsOf(nodes: NodeProto[], feeds: Record<string, Tensor>, initializers: TensorProto[] = []): Promise<Record<string, number[]>> {
  const inputs = Object.entries(feeds).map(([name, { dtype, dims }]) => valueInfo(name, dtype, dims))
  const wanted = Object.keys(feeds).filter((name) => feeds[name]?.dtype.startsWith('float'))
  const emit = new Emitter(tensorNames(model({ inputs, outputs: [], nodes, initializers })))
  const loss = emit.op('ReduceSum', [nodes.at(-1)?.output[0] as string], { attributes: { keepdims: 0 } })
  const whole = [...nodes, ...emit.nodes]
  const tensors = await observeTensors(model({ inputs, outputs: [], nodes: whole, initializers }), feeds)
  const gradients = emitBackward({ nodes: whole, loss, wanted, tensors, emit })
  const outputs = [...gradients].map(([input, gradient]) => valueInfo(gradient, tensors.dtype(input), tensors.dims(input)))
  const backward = model({ inputs, outputs, nodes: [...nodes, ...emit.nodes], initializers: [...initializers, ...emit.initializers] })
  const results = await run(backward, feeds)
  return Object.fromEntries([...gradients].map(([input, gradient]) => [input, Array.from(results[gradient]?.data as Float64Array, (value) => value + 0)]))
}
