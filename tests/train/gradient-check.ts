// Checks gradients against central finite differences: the loss is a fixed random weighting of a graph's outputs,
// summed in double precision, so that nothing of the code under test takes part in the reference.
import { expect } from 'vitest'
import { Emitter } from '#flyweight/onnx/emitter.js'
import { model, valueInfo } from '#flyweight/onnx/builder.js'
import { tensorNames } from '#flyweight/onnx/names.js'
import { encodeModel, type NodeProto, type TensorProto } from '#flyweight/onnx/proto.js'
import { openSession, type Session } from '#flyweight/runtime/session.js'
import { elementCount, type Tensor } from '#flyweight/tensor/tensor.js'
import { emitBackward } from '#flyweight/train/backward.js'
import { observeTensors } from '#flyweight/train/tensors.js'
import { noise } from '../onnx/running.js'

export interface GradientCase {
  nodes: NodeProto[]
  /** Inputs of the graph; the float ones are differentiated by, unless `wanted` says otherwise. */
  feeds: Record<string, Tensor>
  constants?: TensorProto[]
  /** Outputs that make up the loss; default: those of the last node. */
  outputs?: string[]
  wanted?: string[]
  /** Step of the differences; default 1e-2 for float32, 1e-5 for float64. */
  step?: number
  /** Allowed error, in shares of the largest gradient of an input (at least 1); default 2e-3 for float32, 1e-7 for float64. */
  tolerance?: number
  seed?: number
}

/** Elements of an input that are checked one by one; of larger inputs as many, chosen by seed, and a random direction. */
const MOST = 24

export async function checkGradients({ nodes, feeds, constants = [], outputs, wanted, seed = 1, ...rest }: GradientCase): Promise<void> {
  const names = outputs ?? nodes.at(-1)?.output.filter((name) => name !== '') ?? []
  const float = (tensor: Tensor) => tensor.dtype === 'float32' || tensor.dtype === 'float64'
  const variables = wanted ?? Object.keys(feeds).filter((name) => float(feeds[name] as Tensor))
  const double = feeds[variables[0] as string]?.dtype === 'float64'
  const { step = double ? 1e-5 : 1e-2, tolerance = double ? 1e-7 : 2e-3 } = rest
  const inputs = Object.entries(feeds).map(([name, { dtype, dims }]) => valueInfo(name, dtype, dims))
  const forward = model({ inputs, outputs: [], nodes, initializers: constants })
  const tensors = await observeTensors(forward, feeds)
  forward.graph.output = names.map((name) => valueInfo(name, tensors.dtype(name), tensors.dims(name)))
  const weights = new Map(names.map((name, index) => [name, noise(tensors.dims(name), seed + 100 + index).data as Float32Array]))

  const emit = new Emitter(tensorNames(forward))
  const terms = names.map((name) => {
    const weighting = emit.tensor(tensors.dtype(name) as 'float32', tensors.dims(name), Array.from(weights.get(name) as Float32Array))
    return emit.op('ReduceSum', [emit.op('Mul', [name, weighting])], { attributes: { keepdims: 0 } })
  })
  const loss = emit.op('Sum', terms)
  const whole = [...nodes, ...emit.nodes]
  const withLoss = model({ inputs, outputs: [], nodes: whole, initializers: [...constants, ...emit.initializers] })
  const gradients = emitBackward({ nodes: whole, loss, wanted: variables, tensors: await observeTensors(withLoss, feeds), emit })
  const declared = [...gradients.values()].map((name) => valueInfo(name, double ? 'float64' : 'float32', ['?']))
  for (const info of declared) if (info.type?.value.case === 'tensorType') delete info.type.value.value.shape
  const backward = model({ inputs, outputs: declared, nodes: [...nodes, ...emit.nodes], initializers: [...constants, ...emit.initializers] })

  const [forwardSession, backwardSession] = [await openSession(encodeModel(forward), { optimization: 'disabled' }), await openSession(encodeModel(backward))]
  try {
    const results = await backwardSession.run(feeds)
    const lossAt = (changed: Record<string, Tensor>) => weightedSum(forwardSession, changed, weights)
    for (const name of variables) {
      const value = feeds[name] as Tensor
      const gradient = results[gradients.get(name) as string] as Tensor
      expect(gradient.dims, `dims of the gradient by ${name}`).toEqual(value.dims)
      const analytic = Array.from(gradient.data as Float32Array)
      const scale = Math.max(1, ...analytic.map(Math.abs))
      for (const direction of directions(elementCount(value.dims), seed)) {
        const shifted = (sign: number): Record<string, Tensor> => {
          const data = (value.data as Float32Array).slice()
          for (const [index, amount] of direction) data[index] = (data[index] as number) + sign * step * amount
          return { ...feeds, [name]: { ...value, data } }
        }
        const expected = ((await lossAt(shifted(1))) - (await lossAt(shifted(-1)))) / (2 * step)
        const got = direction.reduce((sum, [index, amount]) => sum + (analytic[index] as number) * amount, 0)
        const error = Math.abs(got - expected)
        expect(
          error,
          `gradient by ${name}, ${direction.length === 1 ? `element ${direction[0]?.[0]}` : 'in a direction'}: ${got}, expected ${expected}`,
        ).toBeLessThan(tolerance * scale * Math.sqrt(direction.length))
      }
    }
  } finally {
    await forwardSession.release()
    await backwardSession.release()
  }
}

/** Single elements and, where not all are among them, all at once with random signs. */
function directions(count: number, seed: number): [number, number][][] {
  const single = count <= MOST ? Array.from({ length: count }, (_, index) => index) : Array.from({ length: MOST }, (_, k) => (k * 7919 + seed * 31) % count)
  const signs = noise([count], seed + 7).data as Float32Array
  const all = Array.from(signs, (sign, index): [number, number] => [index, Math.sign(sign) || 1])
  return [...single.map((index): [number, number][] => [[index, 1]]), ...(count > MOST ? [all] : [])]
}

async function weightedSum(session: Session, feeds: Record<string, Tensor>, weights: ReadonlyMap<string, Float32Array>): Promise<number> {
  const outputs = await session.run(feeds)
  let sum = 0
  for (const [name, weighting] of weights) {
    const data = (outputs[name] as Tensor).data as Float32Array
    for (let i = 0; i < data.length; i++) sum += (data[i] as number) * (weighting[i] as number)
  }
  return sum
}
