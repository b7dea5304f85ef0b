// A quantized model with some nodes that read floats again, in place: as near as one comes to leaving them in float
// without calibrating anew. For QuantizeLinear/DequantizeLinear pairs with constant parameters; weights stay rounded.
import { node, tensorProto } from '../../onnx/builder.js'
import { GraphIndex } from '../../onnx/graph.js'
import { tensorNames } from '../../onnx/names.js'
import type { NodeProto } from '../../onnx/proto.js'
import { labelOf } from '../passes/decisions.js'
import type { Model } from '../passes/pass.js'

/** Codes of uint8 and int8. */
const CODES: Partial<Record<string, readonly [number, number]>> = { uint8: [0, 255], int8: [-128, 127] }

/**
 * Makes the nodes of these labels read what was quantized for them as it was before rounding, but otherwise as it came
 * through: clamped to the range, since an activation may be left to that, and scaled and shifted where the two nodes of a
 * pair differ in that, since a multiplication may.
 */
export function bypass(model: Model, labels: ReadonlySet<string>): void {
  const { graph } = model
  const index = new GraphIndex(graph)
  const unique = tensorNames(model)
  const floats = new Map<string, string>()
  const added: NodeProto[] = []
  const constant = (tensor: string, value: number) => {
    const name = unique(`${tensor}_by`)
    graph.initializer.push(tensorProto(name, 'float32', [], [value]))
    return name
  }
  const apply = (opType: string, tensor: string, ...values: number[]) => {
    const name = unique(`${tensor}_${opType.toLowerCase()}`)
    added.push(node(opType, [tensor, ...values.map((value) => constant(name, value))], [name]))
    return name
  }
  const floatOf = (tensor: string): string => {
    const pair = floats.has(tensor) ? undefined : pairBehind(tensor, index)
    if (pair === undefined) return floats.get(tensor) ?? tensor
    const clamped = apply('Clip', pair.source, ...pair.range)
    const scaled = pair.scale === 1 ? clamped : apply('Mul', clamped, pair.scale)
    const shifted = pair.shift === 0 ? scaled : apply('Add', scaled, pair.shift)
    floats.set(tensor, shifted)
    return shifted
  }
  graph.node = graph.node.flatMap((each) => {
    if (labels.has(labelOf(each))) each.input = each.input.map(floatOf)
    return [...added.splice(0), each]
  })
}

interface Pair {
  /** What is quantized. */
  source: string
  /** What the codes can express of it. */
  range: readonly [number, number]
  /** What comes out, but for rounding, is `source` · scale + shift. */
  scale: number
  shift: number
}

/** The pair that gives a tensor; undefined where there is none, or its parameters are not one constant each. */
function pairBehind(tensor: string, index: GraphIndex): Pair | undefined {
  const back = index.producer(tensor)
  const quantize = back?.opType === 'DequantizeLinear' ? index.producer(back.input[0] ?? '') : undefined
  if (back === undefined || quantize?.opType !== 'QuantizeLinear') return undefined
  const [from, to] = [parametersOf(quantize, index), parametersOf(back, index)]
  if (from === undefined || to === undefined) return undefined
  const range = from.codes.map((code) => (code - from.zero) * from.step) as [number, number]
  return { source: quantize.input[0] ?? '', range, scale: to.step / from.step, shift: (from.zero - to.zero) * to.step }
}

function parametersOf({ input }: NodeProto, index: GraphIndex): { step: number; zero: number; codes: readonly [number, number] } | undefined {
  const [step, zero] = [index.constant(input[1] ?? ''), index.constant(input[2] ?? '')]
  const codes = CODES[zero?.dtype ?? '']
  if (step?.data.length !== 1 || zero?.data.length !== 1 || codes === undefined) return undefined
  return { step: Number(step.data[0]), zero: Number(zero.data[0]), codes }
}
