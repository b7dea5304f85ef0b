// Networks built from a few numbers, with weights drawn by seed: students for distillation, and models to train from
// nothing.
import { Type, type Static } from 'typebox'
import { model as makeModel, valueInfo } from '../onnx/builder.js'
import { elementCount } from '../tensor/tensor.js'
import { Layers } from './network-layers.js'
import { optionError } from './options.js'
import type { Model } from './training-form.js'
import { transformer, TransformerSchema } from './transformer.js'

const width = (description: string, fallback: number[]) =>
  Type.Array(Type.Integer({ minimum: 1, maximum: 65536 }), { maxItems: 32, default: fallback, description })

/** By kind. */
export const networkSchemas = {
  mlp: Type.Object(
    { kind: Type.Literal('mlp'), hidden: width('Units of each hidden layer', [128]) },
    { additionalProperties: false, description: 'Fully connected layers with ReLU between them' },
  ),
  cnn: Type.Object(
    {
      kind: Type.Literal('cnn'),
      channels: width('Channels of each block: convolution 3×3, batch normalization, ReLU, maximum over 2×2', [16, 32, 64]),
      hidden: width('Units of each fully connected layer before the last', []),
    },
    {
      additionalProperties: false,
      description: 'Blocks of convolutions, the mean over positions or fully connected layers behind them; for inputs of channels, height and width',
    },
  ),
  transformer: TransformerSchema,
}

export type NetworkSpec = Static<(typeof networkSchemas)[keyof typeof networkSchemas]>

export interface NetworkInterface {
  /** Name and dims of one row of the only input, float32. */
  input: { name: string; dims: readonly number[] }
  output: { name: string; classes: number }
}

/**
 * A model of one input [batch, …dims] and one output [batch, classes] that is not trained yet.
 * @throws FlyweightError `invalid_input` naming the field, for an input that the kind of network cannot take
 */
export function buildNetwork(spec: NetworkSpec, { input, output }: NetworkInterface, seed: number): Model {
  const layers = new Layers(seed)
  const last = emitNetwork(layers, spec, { input, output })
  return makeModel({
    name: spec.kind,
    inputs: [valueInfo(input.name, 'float32', ['batch', ...input.dims])],
    outputs: [valueInfo(last, 'float32', ['batch', output.classes])],
    nodes: layers.nodes,
    initializers: layers.initializers,
  })
}

function emitNetwork(layers: Layers, spec: NetworkSpec, { input, output }: NetworkInterface): string {
  switch (spec.kind) {
    case 'mlp':
      return layers.dense(layers.flatten(input.name), elementCount(input.dims), spec.hidden, output)
    case 'cnn':
      return cnn(layers, spec, { input, output })
    case 'transformer':
      return transformer(layers, spec, { input, output })
  }
}

function cnn(layers: Layers, { channels, hidden }: Extract<NetworkSpec, { kind: 'cnn' }>, { input, output }: NetworkInterface): string {
  const [planes, height, across] = input.dims
  if (planes === undefined || height === undefined || across === undefined || input.dims.length !== 3) {
    throw optionError('/student/kind', `a cnn needs an input of channels, height and width, got rows of dims [${input.dims.join(', ')}]`)
  }
  let [at, from, size] = [input.name, planes, [height, across]]
  for (const [index, to] of channels.entries()) {
    at = layers.block(`block${index + 1}`, at, from, to)
    from = to
    size = size.map((length) => Math.floor(length / 2))
    if (size.some((length) => length === 0))
      throw optionError('/student/channels', `got ${channels.length} blocks, each of which halves the input of ${height}×${across}: it is too small`)
  }
  if (hidden.length > 0) return layers.dense(layers.flatten(at), from * elementCount(size), hidden, output)
  return layers.dense(layers.flatten(layers.pool(at)), from, [], output)
}
