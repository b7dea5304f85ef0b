// What the admin routes answer, for the API description.
import { Type } from 'typebox'
import { ManifestSchema } from '../../registry/manifest.js'
import { component } from '../answers.js'

const tensorSpec = Type.Object({
  name: Type.String(),
  dtype: Type.String(),
  dims: Type.Array(Type.Union([Type.Integer(), Type.String()]), { description: 'A string names a symbolic dimension, -1 is free' }),
})
const time = Type.String({ description: 'ISO 8601' })
const fidelity = Type.Object({
  score: Type.Number({ description: '0 to 1' }),
  definition: Type.String({ description: 'What the score is, in words' }),
  samples: Type.Integer({ description: 'Rows compared on' }),
  synthetic: Type.Boolean({ description: 'True when noise had to stand in for real inputs' }),
  outputs: Type.Optional(
    Type.Record(
      Type.String(),
      Type.Object({
        top1: Type.Optional(Type.Number({ description: 'Share of equal argmaxes over the last axis' })),
        cosine: Type.Number(),
        sqnrDb: Type.Number({ description: 'Signal to quantization noise; 200 stands for equal' }),
        maxError: Type.Number(),
        kl: Type.Optional(Type.Number({ description: 'Divergence from the source model’s distribution, in nats a position' })),
        klOf: Type.Optional(
          Type.Enum(['probabilities', 'softmax'], { description: 'Whether the output is a distribution itself or its softmax was compared' }),
        ),
      }),
    ),
  ),
  accuracy: Type.Optional(Type.Object({ source: Type.Number(), variant: Type.Number() }, { description: 'Share of correct labels' })),
  labelsUnused: Type.Optional(Type.String({ description: 'Why there is no accuracy although the samples have labels' })),
  heldOut: Type.Optional(Type.Boolean({ description: 'True when no row compared on was one calibrated on' })),
  calibrationSamples: Type.Optional(Type.Integer({ description: 'Rows that passes could calibrate on' })),
})
const recipe = Type.Array(Type.Object({ pass: Type.String() }), { description: 'Passes in order, each with its parameters' })

const count = Type.Integer({ minimum: 0 })
const shards = Type.Object(
  {
    parent: Type.String({ description: 'Id of the variant that was cut' }),
    stages: Type.Array(
      Type.Object({
        file: Type.String({ description: 'For `/artifact?file=`' }),
        inputs: Type.Array(Type.String()),
        outputs: Type.Array(Type.String()),
      }),
    ),
    inputs: Type.Array(Type.String()),
    outputs: Type.Array(Type.String()),
    batchable: Type.Boolean(),
    microBatch: Type.Integer({ description: 'Rows of a micro-batch at most' }),
    plan: Type.Object(
      {
        strategy: Type.Enum(['pipeline', 'tensor']),
        stages: Type.Array(
          Type.Object({
            rank: Type.Integer({ description: 'Stages of one rank are parts that may run at once' }),
            part: Type.Integer(),
            device: Type.String({ description: 'As planned; where the stage is now depends on which devices live' }),
            nodes: count,
            weightBytes: count,
            computeMs: Type.Number({ description: 'For one micro-batch, measured' }),
            transferMs: Type.Number(),
            inBytes: count,
            outBytes: count,
            reads: Type.Array(Type.Object({ from: count, bytes: count }), { description: 'Bytes that it reads of which stage' }),
          }),
        ),
        microBatches: Type.Integer({ description: 'In flight, that the plan is told for' }),
        latencyMs: Type.Number({ description: 'Of one micro-batch on its own' }),
        intervalMs: Type.Number({ description: 'Between two that come out of the full pipeline' }),
        bubbleShare: Type.Number({ description: 'Share of their time that devices wait' }),
        crossingBytes: count,
      },
      { description: 'What was measured, stage by stage' },
    ),
  },
  { description: 'Of a variant in stages, which run on several devices' },
)

export const adminComponents = {
  ModelStatus: Type.Object({
    name: Type.String(),
    version: Type.String(),
    state: Type.Enum(['READY', 'UNAVAILABLE', 'LOADING', 'UNLOADING']),
    reason: Type.String({ description: 'Why it is not READY, or why the newest version on disk is not the one served' }),
  }),
  Model: Type.Object({
    name: Type.String(),
    version: Type.String(),
    digest: Type.String({ description: 'SHA-256 of the model file and its external data' }),
    bytes: Type.Integer(),
    signature: Type.Object({
      inputs: Type.Array(tensorSpec),
      outputs: Type.Array(tensorSpec),
      batchable: Type.Boolean(),
      opset: Type.Integer(),
      parameters: Type.Integer(),
      operators: Type.Record(Type.String(), Type.Integer()),
    }),
    manifest: ManifestSchema,
    labels: Type.Integer({ description: 'Number of labels' }),
    hasSamples: Type.Boolean(),
  }),
  Variant: Type.Object({
    id: Type.String({ description: '`<model>:<version>:<name>`' }),
    model: Type.String(),
    version: Type.String(),
    name: Type.String(),
    source: Type.Boolean({ description: 'True for the model as the user brought it' }),
    recipe,
    digest: Type.String(),
    bytes: Type.Integer(),
    fidelity,
    profile: Type.Optional(
      Type.Object({
        machine: Type.String(),
        device: Type.String(),
        latencies: Type.Array(Type.Object({ batch: Type.Integer(), p50Ms: Type.Number(), p99Ms: Type.Number(), runs: Type.Integer() })),
        residentBytes: Type.Integer(),
        loadMs: Type.Number(),
        measuredAt: time,
      }),
    ),
    state: Type.Enum(['ready', 'rejected', 'quarantined']),
    reason: Type.String(),
    sizeOnly: Type.Boolean({ description: 'Smaller but not faster: answers only when a request pins it' }),
    pinned: Type.Boolean({ description: 'Kept in memory once loaded' }),
    createdAt: time,
    shards: Type.Optional(shards),
  }),
  Report: Type.Object({
    recipe,
    chosenBecause: Type.Optional(Type.String()),
    toolchain: Type.String(),
    sourceDigest: Type.String(),
    nodes: Type.Array(
      Type.Object({ node: Type.String(), opType: Type.String(), pass: Type.String(), action: Type.Enum(['done', 'skipped']), reason: Type.String() }),
    ),
    passes: Type.Array(Type.Object({ pass: Type.String(), seconds: Type.Number(), summary: Type.String() })),
    kernels: Type.Optional(
      Type.Object(
        {
          counts: Type.Record(Type.String(), Type.Integer(), { description: 'Integer kernels by operator' }),
          integer: Type.Array(Type.String(), { description: 'Nodes that compute in integers' }),
          fellBack: Type.Array(Type.String(), { description: 'Nodes with integer weights that compute in float after all' }),
        },
        { description: 'What the runtime executes after its fusions' },
      ),
    ),
    fidelity,
    gate: Type.Object({ admitted: Type.Boolean(), reason: Type.String(), finite: Type.Boolean() }),
    sourceBytes: Type.Integer(),
    variantBytes: Type.Integer(),
  }),
  Job: Type.Object({
    id: Type.String(),
    kind: Type.Enum(['compress', 'search', 'profile', 'train', 'shard']),
    state: Type.Enum(['queued', 'running', 'succeeded', 'failed', 'cancelled']),
    key: Type.String({ description: 'Queued or running jobs with the same key are one job' }),
    progress: Type.Object({ fraction: Type.Number(), step: Type.String(), etaS: Type.Optional(Type.Number()) }),
    log: Type.Array(Type.String()),
    result: Type.Optional(
      Type.Unknown({
        description:
          'When succeeded; of a search also while it runs and after it was cancelled: `report`, with the fate of each candidate, and `kept`, the ids of its variants; of a training the `curve` so far',
      }),
    ),
    error: Type.Optional(Type.Object({ code: Type.String(), detail: Type.String() }, { description: 'When failed' })),
    attempts: Type.Integer(),
    createdAt: time,
    startedAt: Type.Optional(time),
    finishedAt: Type.Optional(time),
  }),
  Cache: Type.Object({
    budgetBytes: Type.Integer(),
    residentBytes: Type.Integer(),
    entries: Type.Array(
      Type.Object({
        variant: Type.String(),
        lane: Type.Integer(),
        bytes: Type.Integer(),
        state: Type.Enum(['loading', 'resident']),
        leases: Type.Integer({ description: 'Runs that hold it now' }),
        pinned: Type.Boolean(),
        loadedAt: time,
        lastUsedAt: time,
        hits: Type.Integer(),
      }),
    ),
    evictions: Type.Record(Type.String(), Type.Integer(), { description: 'By reason' }),
    loads: Type.Integer(),
  }),
  Capture: Type.Object({
    enabled: Type.Boolean({ description: 'Whether its model.yaml asks for it' }),
    rows: Type.Integer({ description: 'Rows on disk' }),
    bytes: Type.Integer({ description: 'Bytes they take' }),
    seen: Type.Integer({ description: 'Rows answered since capture began; those on disk are a random sample of them' }),
    maxBytes: Type.Integer(),
    maxRows: Type.Integer(),
  }),
  RouteExplanation: Type.Object({
    model: Type.String(),
    version: Type.String(),
    sla: Type.Object({}),
    chosen: Type.Optional(Type.String({ description: 'Absent when the request would be refused' })),
    reason: Type.String(),
    wouldBuild: Type.Optional(Type.String({ description: 'Recipe whose build such a request would trigger' })),
    considered: Type.Array(component('Considered')),
  }),
}
