// The networks whose training is measured, with the digits that each takes: batches of `data` fit `model`.
import { fileURLToPath } from 'node:url'
import { loadModel } from '#flyweight/onnx/load.js'
import { buildNetwork } from '#flyweight/train/networks.js'
import { mnistDigits } from './mnist.mjs'

export async function trainingCases() {
  const { training: images } = await mnistDigits()
  const rows = { rows: images.rows, read: async (chosen, position) => flat(await images.read(chosen, position)) }
  const network = (spec, dims) => buildNetwork(spec, { input: { name: 'x', dims }, output: { name: 'logits', classes: 10 } }, 1)
  const mlp = () => network({ kind: 'mlp', hidden: [512, 256] }, [784])
  const cnn = network({ kind: 'cnn', channels: [16, 32, 64], hidden: [] }, [1, 28, 28])
  const vit = await loadModel(fileURLToPath(new URL('../tests/fixtures/digits_vit.onnx', import.meta.url)))
  return [
    { name: 'MLP 784-512-256-10, SGD', model: mlp(), data: rows, optimizer: { kind: 'sgd' }, learningRate: 0.1 },
    { name: 'MLP 784-512-256-10, AdamW', model: mlp(), data: rows, optimizer: { kind: 'adamw' }, learningRate: 0.001 },
    { name: 'CNN of 16, 32, 64 channels, AdamW', model: cnn, data: images, optimizer: { kind: 'adamw' }, learningRate: 0.001 },
    { name: 'ViT of tests/fixtures, AdamW', model: vit, data: images, optimizer: { kind: 'adamw' }, learningRate: 0.0001 },
  ]
}

function flat({ x, labels }) {
  return { x: { ...x, dims: [x.dims[0], 784] }, labels }
}
