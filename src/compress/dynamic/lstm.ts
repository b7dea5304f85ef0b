// LSTM in int8: `DynamicQuantizeLSTM` of com.microsoft
// (https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md), which quantizes the input and the
// hidden state at each step. Its weights lie transposed: [directions, input, 4 · hidden], one scale a column.
import { attribute, intAttribute } from '../../onnx/attributes.js'
import { node as makeNode, tensorProto, tensorValues } from '../../onnx/builder.js'
import type { NodeProto } from '../../onnx/proto.js'
import { dtypes } from '../../tensor/tensor.js'
import { storedConstant, type Scope, type StoredConstant } from '../passes/rewrite-nodes.js'
import { quantizeChannels } from '../quantize/affine.js'
import { flipped } from '../weights/products.js'
import type { DynamicContext } from './context.js'

/** Both weights of an LSTM, and how many numbers they hold; or why it stays as it is. */
export function lstmWeights(node: NodeProto, scope: Scope): { input: StoredConstant; recurrent: StoredConstant; count: number } | { refusal: string } {
  const [, w = '', r = ''] = node.input
  const [input, recurrent] = [storedConstant(w, scope), storedConstant(r, scope)]
  if (input === undefined || recurrent === undefined) return { refusal: 'its weights are not constant' }
  if (input.proto.dataType !== dtypes.float32.onnx) return { refusal: 'its weights are not float32' }
  if (intAttribute(node, 'layout', 0) !== 0) return { refusal: 'its batch comes first, for which there is no int8 kernel' }
  const count = [input, recurrent].reduce((sum, { proto }) => sum + proto.dims.reduce((product, dim) => product * Number(dim), 1), 0)
  return { input, recurrent, count }
}

/** The node that computes what `node` did. */
export function dynamicLstm(node: NodeProto, weights: { input: StoredConstant; recurrent: StoredConstant }, context: DynamicContext): NodeProto[] {
  const [x = '', , , bias = '', lengths = '', hidden = '', cell = '', peepholes = ''] = node.input
  const [input, recurrent] = [codesOf(weights.input, context), codesOf(weights.recurrent, context)]
  const inputs = [x, input.codes, recurrent.codes, bias, lengths, hidden, cell, peepholes, input.scales, input.zeros, recurrent.scales, recurrent.zeros]
  const made = makeNode('DynamicQuantizeLSTM', inputs, node.output, { domain: 'com.microsoft', name: node.name })
  const known = ['activations', 'activation_alpha', 'activation_beta', 'clip', 'direction', 'hidden_size', 'input_forget']
  made.attribute = known.flatMap((name) => attribute(node, name) ?? [])
  return [made]
}

function codesOf({ proto, owner }: StoredConstant, { unique, once }: DynamicContext): { codes: string; scales: string; zeros: string } {
  return once(proto, 'lstm', () => {
    const [directions, gates, width] = proto.dims.map(Number) as [number, number, number]
    const values = tensorValues(proto).data as Float32Array<ArrayBuffer>
    const codes = new Int8Array(values.length)
    const scales = new Float32Array(directions * gates)
    for (let direction = 0; direction < directions; direction++) {
      const own = values.subarray(direction * gates * width, (direction + 1) * gates * width)
      const quantized = quantizeChannels(own, { dims: [gates, width], axis: 0, limit: 127 })
      codes.set(flipped(quantized.codes, gates, width), direction * gates * width)
      scales.set(quantized.scales, direction * gates)
    }
    const names = { codes: unique(`${proto.name}::weight.q`), scales: unique(`${proto.name}::weight.scale`), zeros: unique(`${proto.name}::weight.zero`) }
    owner.initializer.push(
      tensorProto(names.codes, 'int8', [directions, width, gates], codes),
      tensorProto(names.scales, 'float32', [directions, gates], scales),
      tensorProto(names.zeros, 'int8', [directions, gates], new Int8Array(directions * gates)),
    )
    return names
  })
}
