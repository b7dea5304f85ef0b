// Examples of the v2 protocol's bodies, for the API description.
import { platform } from '../../v2/metadata.js'

export const inferRequest = {
  id: '42',
  parameters: { sla_ms: 25, min_fidelity: 0.95 },
  inputs: [{ name: 'x', shape: [1, 4], datatype: 'FP32', data: [1, 2, 3, 4] }],
  outputs: [{ name: 'y' }],
}

export const inferAnswer = {
  model_name: 'scale',
  model_version: '1',
  id: '42',
  parameters: { variant: 'int8', fidelity: 0.983, deadline_met: true },
  outputs: [{ name: 'y', shape: [1, 4], datatype: 'FP32', data: [2, 4, 6, 8] }],
}

export const modelMetadata = {
  name: 'scale',
  versions: ['1'],
  platform,
  inputs: [{ name: 'x', datatype: 'FP32', shape: [-1, 4] }],
  outputs: [{ name: 'y', datatype: 'FP32', shape: [-1, 4] }],
}

export const modelConfig = {
  name: 'scale',
  platform,
  backend: 'onnxruntime',
  max_batch_size: 32,
  input: [{ name: 'x', data_type: 'TYPE_FP32', dims: [4] }],
  output: [{ name: 'y', data_type: 'TYPE_FP32', dims: [4] }],
}

const some = { count: 128, ns: 512_000_000 }
const none = { count: 0, ns: 0 }

export const statistics = {
  model_stats: [
    {
      name: 'scale',
      version: '1',
      last_inference: 1_764_000_000_000,
      inference_count: 128,
      execution_count: 16,
      inference_stats: { success: some, fail: none, queue: some, compute_input: none, compute_infer: some, compute_output: none },
      batch_stats: [{ batch_size: 8, compute_input: none, compute_infer: { count: 16, ns: 64_000_000 }, compute_output: none }],
      memory_usage: [{ type: 'CPU', id: 0, byte_size: 14_200_000 }],
    },
  ],
}

export const repositoryIndex = [
  { name: 'scale', version: '1', state: 'READY', reason: '' },
  { name: 'scale', version: '2', state: 'UNAVAILABLE', reason: 'the file is not an ONNX model' },
]
