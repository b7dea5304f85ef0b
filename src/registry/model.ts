// What the registry knows of a model and of its variants: plain data, frozen once published.
import type { Fidelity, Profile, Recipe, ShardPlan } from '../measurements.js'
import type { Signature } from '../onnx/summary.js'
import type { Manifest } from './manifest.js'

export type { Signature }

export interface ModelVersion {
  name: string
  version: string
  /** SHA-256 (hex) over the model file and its external data. */
  digest: string
  /** The .onnx file inside the artifact store; lanes load from here, never from `models/`. */
  file: string
  bytes: number
  signature: Signature
  manifest: Manifest
  /** One label per index of the last output axis, where the manifest gives them. */
  labels: readonly string[] | undefined
  /** File or folder of sample inputs, or undefined. */
  samples: string | undefined
}

/** States as Triton's repository extension names them. */
export type ModelState = 'READY' | 'UNAVAILABLE' | 'LOADING' | 'UNLOADING'

export interface ModelStatus {
  name: string
  version: string
  state: ModelState
  /** Why it is not READY, or why the newest version on disk is not the one served. */
  reason: string
}

export type VariantState = 'ready' | 'rejected' | 'quarantined'

export interface Variant {
  /** `<model>:<version>:<name>`, unique. */
  id: string
  model: string
  version: string
  /** `fp32` for a float32 source model, else `original`; for a variant its recipe's short name. */
  name: string
  /** True for the model as the user brought it. */
  source: boolean
  recipe: Recipe
  /** Digest of the artifact; `file` is its .onnx in the store. */
  digest: string
  file: string
  /** Bytes on disk. */
  bytes: number
  fidelity: Fidelity
  /** Absent until measured on this machine. */
  profile: Profile | undefined
  state: VariantState
  /** Why it was rejected or quarantined; else empty. */
  reason: string
  /** Smaller but not faster: never chosen for latency, only when pinned by a request. */
  sizeOnly: boolean
  /** Kept in memory by the cache once loaded. */
  pinned: boolean
  createdAt: string
  /** Of a variant that is a row of stage models; `file` is then that of the first. */
  shards?: Shards
}

/** A variant in stages: who reads what from whom. */
export interface Shards {
  /** Id of the variant that was cut; the same computation as this one. */
  parent: string
  /** In an order in which values go forward. */
  stages: readonly ShardStage[]
  /** What the whole takes and gives. */
  inputs: readonly string[]
  outputs: readonly string[]
  batchable: boolean
  /** Rows of a micro-batch at most. */
  microBatch: number
  /** Stage by stage what was measured; devices as planned. */
  plan: ShardPlan
}

export interface ShardStage {
  /** Name of its .onnx file, beside that of the first. */
  file: string
  inputs: readonly string[]
  outputs: readonly string[]
}

export function variantId(model: string, version: string, name: string): string {
  return `${model}:${version}:${name}`
}
