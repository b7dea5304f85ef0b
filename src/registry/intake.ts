// Taking one model file into service: copied into the store, inspected in probation, described as a
// ModelVersion, and entered in the catalog as its own source variant. What was found out once about a
// digest on this machine is not found out again.
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { FlyweightError } from '../errors.js'
import { openNpz } from '../tensor/array-file.js'
import type { Tensor } from '../tensor/tensor.js'
import type { ArtifactStore, StoredArtifact } from './artifact-store.js'
import type { Catalog } from './catalog.js'
import type { FoundVersion, ModelFolder } from './model-folder.js'
import { variantId, type ModelVersion, type Signature, type Variant } from './model.js'

/** runtime/probation.ts's inspectModel, given from outside. */
export type Inspect = (file: string, options: { samples?: Record<string, Tensor> }) => Promise<{ signature: Signature }>

export interface IntakeContext {
  store: ArtifactStore
  catalog: Catalog
  inspect: Inspect
}

/**
 * Brings the found file into the store and finds out what it is.
 * @throws FlyweightError `invalid_model` as probation says, `invalid_config` when the labels do not fit.
 */
export async function takeIn(name: string, found: FoundVersion, folder: ModelFolder, context: IntakeContext): Promise<ModelVersion> {
  const { store, catalog } = context
  const known = catalog.knownDigest(found.file, found.stamp)
  const artifact = (known !== undefined && (await store.find(known))) || (await store.putFile(found.file))
  const signature = await inspected(artifact, folder.samples, context)
  checkLabels(folder.labels, signature)
  if (artifact.digest !== known) catalog.saveDigest(found.file, found.stamp, artifact.digest)
  const { version } = found
  return Object.freeze({ name, version, ...artifact, signature, manifest: folder.manifest, labels: folder.labels, samples: folder.samples })
}

/**
 * Makes the catalog agree with the model as it is now: its source variant is there, variants of another file of
 * this version are not, nor those whose artifact was lost.
 */
export function enterSource(model: ModelVersion, { store, catalog }: Omit<IntakeContext, 'inspect'>): void {
  const existing = catalog.variants(model.name, model.version)
  const source = existing.find((variant) => variant.source)
  for (const variant of existing) {
    if (variant.source) continue
    const file = store.fileOf(variant.digest)
    if (source?.digest !== model.digest || !store.has(variant.digest)) catalog.deleteVariant(variant.id)
    else if (variant.file !== file) catalog.saveVariant({ ...variant, file })
  }
  // A quarantined source gets another chance: without one, only another file could ever be served again.
  if (source?.digest === model.digest && source.file === model.file && source.state === 'ready') return
  // Deleted, not only replaced: what others have learned of the file before must not count for this one.
  if (source && (source.digest !== model.digest || source.name !== sourceName(model.signature))) catalog.deleteVariant(source.id)
  catalog.saveVariant(sourceVariant(model, source))
}

function sourceVariant(model: ModelVersion, previous: Variant | undefined): Variant {
  const name = sourceName(model.signature)
  return {
    id: variantId(model.name, model.version, name),
    model: model.name,
    version: model.version,
    name,
    source: true,
    recipe: [],
    digest: model.digest,
    file: model.file,
    bytes: model.bytes,
    fidelity: { score: 1, definition: 'the source model itself', samples: 0, synthetic: false, outputs: {} },
    profile: undefined,
    state: 'ready',
    reason: '',
    sizeOnly: false,
    pinned: previous?.pinned ?? false,
    createdAt: new Date().toISOString(),
  }
}

/** `fp32` for a network of float32 numbers; one that is quantized already, or has no float32 input or output, is `original`. */
function sourceName({ inputs, outputs, operators }: Signature): string {
  const float32 = [...inputs, ...outputs].some(({ dtype }) => dtype === 'float32')
  const quantized = Object.keys(operators).some((operator) => /Quantize|QLinear|Integer$|NBits$/.test(operator))
  return float32 && !quantized ? 'fp32' : 'original'
}

async function inspected(artifact: StoredArtifact, samplesFolder: string | undefined, { store, catalog, inspect }: IntakeContext): Promise<Signature> {
  const { digest, file } = artifact
  const cached = catalog.inspection(digest, catalog.machine) as { signature: Signature } | undefined
  if (cached) return cached.signature
  try {
    const samples = await firstSample(samplesFolder)
    // Samples that do not fit must not condemn a good model: whoever uses them says what is wrong with them.
    const inspection = samples ? await inspect(file, { samples }).catch(() => inspect(file, {})) : await inspect(file, {})
    catalog.saveInspection(digest, catalog.machine, inspection)
    return inspection.signature
  } catch (error) {
    if (!catalog.allVariants().some((variant) => variant.digest === digest)) await store.remove(digest)
    throw error
  }
}

/** One row of the first .npz file, to try the model with; undefined when there is none that can be read. */
async function firstSample(samples: string | undefined): Promise<Record<string, Tensor> | undefined> {
  if (samples === undefined) return undefined
  try {
    const names = (await stat(samples)).isDirectory() ? (await readdir(samples)).sort().map((name) => join(samples, name)) : [samples]
    const file = names.find((name) => name.endsWith('.npz'))
    if (file === undefined) return undefined
    const arrays = [...openNpz(file)].filter(([name]) => name !== 'labels' && !name.startsWith('out/'))
    return Object.fromEntries(arrays.map(([name, array]) => [name.replace(/^in\//, ''), array.dims.length === 0 ? array.whole() : array.rows(0, 1)]))
  } catch {
    return undefined
  }
}

function checkLabels(labels: readonly string[] | undefined, { outputs }: Signature): void {
  const classes = outputs.map(({ dims }) => dims.at(-1)).filter((size): size is number => typeof size === 'number' && size > 0)
  if (labels === undefined || classes.length === 0 || classes.includes(labels.length)) return
  const detail = `give ${labels.length} labels, expected ${[...new Set(classes)].join(' or ')}, the size of the output's last axis`
  throw new FlyweightError('invalid_config', `model.yaml: /labels ${detail}`, { errors: [{ pointer: '/labels', detail }] })
}
