// The shared vocabulary of recipes and of what is measured about a variant. A leaf: jobs produce
// these, the catalog stores them, the router decides by them, the doors show them.

/** One pass of a recipe with its parameters, e.g. `{ pass: 'int8-static', calibration: 'min-max' }`. */
export interface RecipeStep {
  pass: string
  [parameter: string]: string | number | boolean | null | readonly (string | number)[]
}
export type Recipe = readonly RecipeStep[]

/** Latency of one batch size on one device; milliseconds a run. */
export interface BatchLatency {
  batch: number
  p50Ms: number
  p99Ms: number
  runs: number
}

/** What one variant costs on one machine and device, at one input shape. */
export interface Profile {
  /** Fingerprint of CPU, runtime version and thread count: a profile counts only where it was taken. */
  machine: string
  device: string
  /** Per input: dims of one row, i.e. without the batch dimension. */
  rowDims: Readonly<Record<string, readonly number[]>>
  /** Ascending by batch. Only batch 1 for a model whose batch dimension is fixed. */
  latencies: readonly BatchLatency[]
  /** Resident bytes that loading and running the variant adds to a process. */
  residentBytes: number
  loadMs: number
  /** ISO 8601. */
  measuredAt: string
}

/** How close one output of a variant is to the source model's. */
export interface OutputFidelity {
  /** Share of last-axis argmaxes that agree; absent where the last axis has one element. */
  top1?: number
  cosine: number
  /** Signal to quantization noise in dB; 200 stands for bitwise equal. */
  sqnrDb: number
  maxError: number
  /** Kullback-Leibler divergence from the source's distribution over the last axis, in nats a position; where top1 is, of floats. */
  kl?: number
  /** What `kl` compares: the output itself where it is a distribution, else its softmax. */
  klOf?: 'probabilities' | 'softmax'
}

export interface Fidelity {
  /** 0..1; 1 for the source model itself. */
  score: number
  /** Says in words how `score` was computed. */
  definition: string
  /** Rows compared on. */
  samples: number
  /** True when no real inputs were available and noise was used. */
  synthetic: boolean
  outputs: Readonly<Record<string, OutputFidelity>>
  /** Share of correct labels, where the samples have labels. */
  accuracy?: { source: number; variant: number }
  /** Why there is no accuracy although the samples have labels. */
  labelsUnused?: string
  /** True when no row compared on was one calibrated on; absent for the source model itself. */
  heldOut?: boolean
  /** Rows that passes could calibrate on; absent as above. */
  calibrationSamples?: number
}

/** What a pass did to one node, or why it did not. */
export interface NodeDecision {
  node: string
  opType: string
  pass: string
  action: 'done' | 'skipped'
  reason: string
}

/** Latency of a candidate against its parent at one batch size, measured interleaved. */
export interface GateLatency {
  batch: number
  parentP50Ms: number
  variantP50Ms: number
  /** Median over pairs of variant ÷ parent: below 1 is faster. */
  ratio: number
}

export interface GateVerdict {
  admitted: boolean
  /** Why, in one sentence a user can act on. */
  reason: string
  finite: boolean
  latencies: readonly GateLatency[]
}

/** What the runtime made of a variant: read back from the graph that it executes after all its fusions. */
export interface ExecutedKernels {
  /** Integer kernels by operator. */
  counts: Readonly<Record<string, number>>
  /** Names of the nodes that compute in integers. */
  integer: readonly string[]
  /** Names of nodes whose weights are stored as integers, but which compute in float: they cost time instead of saving it. */
  fellBack: readonly string[]
}

/** The whole story of one build, stored beside its artifact as report.json. */
export interface DecisionReport {
  recipe: Recipe
  /** Why the preset chose this recipe, where a preset was asked for. */
  chosenBecause?: string
  toolchain: string
  sourceDigest: string
  nodes: readonly NodeDecision[]
  /** One line a pass: node counts before and after, seconds, notes. */
  passes: readonly { pass: string; seconds: number; summary: string }[]
  /** Absent where the variant has no integers, or runs elsewhere than on the CPU. */
  kernels?: ExecutedKernels
  fidelity: Fidelity
  gate: GateVerdict
  sourceBytes: number
  /** As stored: packed where that pays. */
  variantBytes: number
}

/** What a search found out about one candidate recipe. */
export interface SearchCandidate {
  /** As the command line writes it; `fp32` for the source model. */
  readonly recipe: string
  readonly fate: 'front' | 'dominated' | 'rejected' | 'failed' | 'skipped'
  /** One sentence, always there. */
  readonly reason: string
  /** Spent on building and measuring it. */
  readonly seconds: number
  readonly bytes?: number
  /** 0..1, as the gate uses it. */
  readonly fidelity?: number
  /** Share of correct labels, where the samples have labels. */
  readonly accuracy?: number
  /** Its latency ÷ the source model's, measured interleaved: below 1 is faster. */
  readonly ratios?: readonly { readonly batch: number; readonly ratio: number }[]
  /** In the front for its bytes: it answers only requests that pin it. */
  readonly pinnedOnly?: boolean
  /** Digest of the variant, where it was kept. */
  readonly variant?: string
}

/** The story of a search for variants (recipe `auto`). */
export interface SearchReport {
  readonly budgetSeconds: number
  readonly elapsedSeconds: number
  /** The source model first, then in the order of trial. */
  readonly candidates: readonly SearchCandidate[]
}

/** How good a model is on rows that it was not trained on. */
export interface Evaluation {
  /** Mean over the rows, of the loss that it is trained by. */
  loss: number
  /** Share of the labelled rows whose largest score is at the label; absent without labels. */
  accuracy?: number
}

/** One point of a training curve. */
export interface CurvePoint {
  /** Steps done, and the epochs that they are. */
  step: number
  epoch: number
  /** Mean of the losses of the steps since the point before. */
  loss: number
  heldOut: Evaluation
}

/** One stage of a sharded model. */
export interface StagePlan {
  /** Stages of one rank wait for nothing of each other: parts, of the same nodes. */
  rank: number
  part: number
  device: string
  nodes: number
  weightBytes: number
  /** For one micro-batch. */
  computeMs: number
  transferMs: number
  inBytes: number
  outBytes: number
  /** How much of `inBytes` comes from which stage; the rest are inputs of the whole. */
  reads: readonly { from: number; bytes: number }[]
}

/** What a sharded model does, or will do. */
export interface ShardPlan {
  strategy: 'pipeline' | 'tensor'
  stages: readonly StagePlan[]
  microBatches: number
  /** Of one micro-batch on its own. */
  latencyMs: number
  /** Between two micro-batches that come out, once the pipeline is full. */
  intervalMs: number
  /** Share of the stages' time in which they wait: (S − 1) ÷ (M + S − 1) for S equal stages and M micro-batches, more for unequal ones. */
  bubbleShare: number
  /** Of the values that pass from stage to stage, for one micro-batch. */
  crossingBytes: number
}
