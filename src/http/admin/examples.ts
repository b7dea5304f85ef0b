// Examples of the admin bodies, for the API description.
import { consideredExample } from '../infer-schema.js'

const digest = '9f2c6d0e5b7a4813c6de0f7b2a59e1440d1c8b7e6f5a493827160f5e4d3c2b1a'
const createdAt = '2026-01-15T09:30:00.000Z'

export const modelStatus = { name: 'digits', version: '1', state: 'READY', reason: '' }

export const model = {
  name: 'digits',
  version: '1',
  digest,
  bytes: 401_408,
  signature: {
    inputs: [{ name: 'x', dtype: 'float32', dims: ['batch', 1, 28, 28] }],
    outputs: [{ name: 'logits', dtype: 'float32', dims: ['batch', 10] }],
    batchable: true,
    opset: 20,
    parameters: 98_666,
    operators: { Conv: 3, Relu: 4, MaxPool: 3, Gemm: 2, Reshape: 1 },
  },
  manifest: { sla: { latencyMs: 50, minFidelity: 0.95 } },
  labels: 10,
  hasSamples: true,
}

export const variant = {
  id: 'digits:1:int8',
  model: 'digits',
  version: '1',
  name: 'int8',
  source: false,
  recipe: [{ pass: 'int8-static', calibration: 'min-max' }],
  digest,
  bytes: 120_512,
  fidelity: { score: 0.992, definition: 'share of predictions equal to the source model’s', samples: 256, synthetic: false },
  profile: {
    machine: 'xeon-avx512vnni-1t-4f2a',
    device: 'cpu',
    latencies: [{ batch: 1, p50Ms: 0.21, p99Ms: 0.34, runs: 400 }],
    residentBytes: 2_400_000,
    loadMs: 14.2,
    measuredAt: createdAt,
  },
  state: 'ready',
  reason: '',
  sizeOnly: false,
  pinned: false,
  createdAt,
}

export const report = {
  recipe: variant.recipe,
  chosenBecause: 'most of the time goes into Conv, which only static quantization makes faster',
  toolchain: 'flyweight 0.1.0, onnxruntime-node 1.30.0',
  sourceDigest: digest,
  nodes: [{ node: 'conv1', opType: 'Conv', pass: 'int8-static', action: 'done', reason: 'weights per channel, activations by min-max' }],
  passes: [{ pass: 'int8-static', seconds: 3.2, summary: '13 nodes became 31' }],
  fidelity: {
    ...variant.fidelity,
    outputs: { logits: { top1: 0.992, cosine: 0.9998, sqnrDb: 31.4, maxError: 0.21, kl: 0.0007, klOf: 'softmax' } },
    heldOut: true,
    calibrationSamples: 256,
  },
  gate: { admitted: true, reason: 'faithful (0.992) and faster at every batch size', finite: true },
  sourceBytes: model.bytes,
  variantBytes: variant.bytes,
}

export const capture = { enabled: true, rows: 1200, bytes: 4_087_200, seen: 250_000, maxBytes: 67_108_864, maxRows: 2000 }

export const job = {
  id: '0f6a1c2e',
  kind: 'compress',
  state: 'running',
  key: 'compress:digits:1:int8',
  progress: { fraction: 0.4, step: 'calibrating 12/32', etaS: 6 },
  log: ['preset int8 → int8-static'],
  attempts: 1,
  createdAt,
  startedAt: createdAt,
}

export const cache = {
  budgetBytes: 268_435_456,
  residentBytes: 2_400_000,
  entries: [
    { variant: 'digits:1:int8', lane: 0, bytes: 2_400_000, state: 'resident', leases: 0, pinned: false, loadedAt: createdAt, lastUsedAt: createdAt, hits: 128 },
  ],
  evictions: { budget: 3, idle: 1 },
  loads: 5,
}

export const explanation = {
  model: 'digits',
  version: '1',
  sla: { latencyMs: 25, minFidelity: 0.95 },
  chosen: 'int8',
  reason: 'the most faithful variant that meets the deadline',
  considered: consideredExample,
}

export const events = `event: progress
data: {"id":"0f6a1c2e","state":"running","progress":{"fraction":0.4,"step":"calibrating 12/32","etaS":6}}

event: done
data: {"id":"0f6a1c2e","state":"succeeded","result":{}}
`
