// What the kinds of job that build variants share: the model they work on with its inputs, and how a variant that was
// built is told to the gateway.
import { rm } from 'node:fs/promises'
import type { BuildResult } from '../compress/build.js'
import { ArtifactStore, type StoredArtifact } from '../registry/artifact-store.js'
import { variantId, type Signature, type Variant } from '../registry/model.js'
import { freezeRows } from '../registry/reservoir.js'
import type { Footprint } from '../runtime/footprint.js'
import { feedSource, type FeedSource } from './feed-source.js'

/** What a build works on, and where its variants will run. */
export interface BuildSubject {
  model: string
  version: string
  sourceFile: string
  sourceDigest: string
  signature: Signature
  /** Folder of sample inputs; without it noise measures speed, and nothing can be calibrated. */
  samplesDir?: string
  /** Folder of rows captured from traffic; it may change while the job runs. */
  capturedDir?: string
  device: string
  threads: number
  machine: string
  batches: readonly number[]
  minFidelity: number
  storeRoot: string
}

/** A variant as the catalog keeps it, but for what the gateway adds. */
export type BuiltVariant = Omit<Variant, 'pinned' | 'createdAt'>

export interface OpenSubject {
  store: ArtifactStore
  feeds: FeedSource
  /** Ascending; 1 alone for a model that does not batch. */
  batches: readonly number[]
  maxBatch: number
  /** Removes what opening made. */
  release(): Promise<void>
}

/** Opens the store and the inputs. What is made for that lies in the store's temporary folder, which is cleared when this process is gone. */
export async function openSubject(subject: BuildSubject): Promise<OpenSubject> {
  const { signature, samplesDir, device, threads, sourceFile } = subject
  const store = new ArtifactStore(subject.storeRoot)
  const capturedDir = subject.capturedDir === undefined ? undefined : await store.makeTemporaryDirectory()
  if (subject.capturedDir !== undefined && capturedDir !== undefined) await freezeRows(subject.capturedDir, capturedDir)
  return {
    store,
    feeds: await feedSource({ file: sourceFile, signature, samplesDir, capturedDir, device, threads }),
    batches: signature.batchable ? [...subject.batches].sort((a, b) => a - b) : [1],
    maxBatch: signature.batchable ? 32 : 1,
    release: async () => {
      if (capturedDir !== undefined) await rm(capturedDir, { recursive: true, force: true })
    },
  }
}

/** `ready` or `rejected` as the gate said. */
export function builtVariant(
  { model, version, machine, device }: BuildSubject,
  {
    name,
    built,
    artifact,
    footprint,
    rowDims,
  }: { name: string; built: BuildResult; artifact: StoredArtifact; footprint: Footprint; rowDims: FeedSource['rowDims'] },
): BuiltVariant {
  const { admitted, reason } = built.report.gate
  return {
    id: variantId(model, version, name),
    model,
    version,
    name,
    source: false,
    recipe: built.recipe,
    ...artifact,
    fidelity: built.report.fidelity,
    profile: { machine, device, rowDims, latencies: built.latencies, ...footprint, measuredAt: new Date().toISOString() },
    state: admitted ? 'ready' : 'rejected',
    reason: admitted ? '' : reason,
    sizeOnly: built.sizeOnly,
  }
}
