// The shard job: cuts a variant into stages, measures them as a pipeline, checks that they answer as it does, and puts
// their folder into the store. Runs in a job process.
import { mkdir, rename, rm, writeFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import type { OutputFidelity, ShardPlan } from '../measurements.js'
import type { Shards, Variant } from '../registry/model.js'
import { variantId } from '../registry/model.js'
import type { DeviceSpec } from '../shard/device-spec.js'
import type { KserveOptions } from '../shard/kserve.js'
import { manifestYaml, writeKserve } from '../shard/kserve-files.js'
import { measuredPlan } from '../shard/plan.js'
import { MS_PER_BYTE, MS_PER_HOP, shardModel, type Sharded, type ShardOptions } from '../shard/shard.js'
import { overfull, type Objective, type Strategy } from '../shard/strategy.js'
import { FlyweightError } from '../errors.js'
import { openSubject, type BuildSubject, type BuiltVariant } from './build-subject.js'
import type { JobContext } from './job-context.js'
import { compareStages, measurePipeline, withStages, type StageFiles } from './measure-pipeline.js'

/** Where to cut. */
export interface ShardCut {
  /** Of a pipeline its stages, else parts; `auto`: the fewest, from two on, whose weights fit the devices. */
  stages?: number | 'auto'
  /** By hand: names of tensors to cut after, one stage more than these. */
  cuts?: readonly string[]
  /** By hand: for each stage patterns of names of nodes. */
  patterns?: readonly (readonly string[])[]
  strategy?: Strategy
  /** What strategy `auto` chooses by. */
  objective?: Objective
}

export interface ShardPayload extends BuildSubject, Omit<ShardCut, 'stages'> {
  stages: number | 'auto'
  /** What is cut: the model itself, or a variant of it. */
  parent: Pick<Variant, 'id' | 'name' | 'source' | 'recipe' | 'file' | 'fidelity' | 'sizeOnly'>
  devices: readonly DeviceSpec[]
  /** Rows. */
  microBatch: number | 'auto'
  profileBudgetMs: number
  /** Files for KServe in place of a variant, and the folder for them, which is made anew. */
  kserve?: KserveOptions & { folder: string }
}

export interface ShardResult {
  plan: ShardPlan
  /** Absent where the stages are for KServe. */
  variant?: BuiltVariant
  /** Stages against the variant that was cut. */
  outputs?: Record<string, OutputFidelity>
  /** What to apply, and the folder with `kserve.yaml`, which is the same, and `storage`, which goes to the storage. */
  kserve?: { folder: string; manifests: string }
}

/** Rows of the micro-batches that are planned for where none are asked for. */
const PLANNED_ROWS = 4
/** In flight, that plans are told for. */
const MICRO_BATCHES = 8
const PLAN_FILE = 'plan.json'

/** @throws FlyweightError `invalid_plan` for a cut that cannot be made; stages that answer otherwise come back as `rejected` */
export async function runShardJob(payload: ShardPayload, { report, log, signal }: JobContext): Promise<ShardResult> {
  const { parent, signature, threads, microBatch } = payload
  report({ fraction: 0, step: 'reading samples' })
  const { store, feeds, batches, maxBatch, release } = await openSubject(payload)
  const { samples, evaluation = samples, feedsAt, rowDims } = feeds
  const folder = await store.makeTemporaryDirectory()
  report({ fraction: 0.05, step: 'cutting' })
  return store.withPlainFile(basename(dirname(parent.file)), async (file) => {
    const rows = Math.min(maxBatch, microBatch === 'auto' ? PLANNED_ROWS : microBatch)
    const cut = await shardModel(file, {
      ...optionsOf(payload),
      folder,
      feedSets: maxBatch > 1 ? [feedsAt(rows), feedsAt(rows + 1)] : [feedsAt(1)],
      ...{ device: 'cpu', threads, microBatches: MICRO_BATCHES },
    })
    checkBudgets(cut, payload)
    const planned: ShardPlan = { ...cut, stages: cut.stages.map(({ file: _file, inputs: _inputs, outputs: _outputs, ...stage }) => stage) }
    if (payload.kserve !== undefined) {
      report({ fraction: 0.6, step: 'writing for KServe' })
      const manifests = manifestYaml(await writeKserve(file, folder, cut, payload.kserve))
      await release()
      await keep(folder, payload.kserve.folder)
      return { plan: planned, kserve: { folder: payload.kserve.folder, manifests } }
    }
    const stages = cut.stages.map(({ file: name, inputs, outputs }) => ({ file: name, inputs, outputs }))
    const names = (specs: readonly { name: string }[]) => specs.map(({ name }) => name)
    const files: StageFiles = { folder, stages, inputs: names(signature.inputs), outputs: names(signature.outputs), batchable: signature.batchable }
    log(`${stages.length} stages: ${cut.stages.map(({ device, weightBytes }) => `${weightBytes} bytes on ${device}`).join(', ')}`)
    const { measured, check } = await withStages(files, threads, async (open) => {
      report({ fraction: 0.4, step: 'comparing outputs' })
      const check = await compareStages(files, open, { file, samples: evaluation, batch: signature.batchable ? maxBatch : 1, threads })
      const measured = await measurePipeline(files, open, {
        ...{ feedsAt, batches, microBatch: signature.batchable ? microBatch : 1, threads, signal },
        budgetMs: payload.profileBudgetMs,
        onProgress: (fraction) => report({ fraction: 0.5 + 0.45 * fraction, step: 'measuring the pipeline' }),
      })
      return { measured, check }
    })
    await release()
    const plan = measuredPlan(planned, measured.stages, { rows: measured.microBatch / rows, msPerByte: MS_PER_BYTE, msPerHop: MS_PER_HOP })
    const { inputs, outputs, batchable } = files
    const shards: Shards = { parent: parent.id, stages, inputs, outputs, batchable, microBatch: measured.microBatch, plan }
    // Beside the stages, so that the same stages with another plan are another artifact.
    await writeFile(join(folder, PLAN_FILE), `${JSON.stringify(shards, undefined, 2)}\n`)
    const artifact = await store.putDirectory(folder)
    return { variant: variantOf(payload, { shards, artifact, measured, rowDims, same: check.same }), plan, outputs: check.outputs }
  })
}

/** `sharded-2` for two stages, `tensor-2` for parts on two devices; with the name of the variant that was cut before it where that is not the model itself. */
export function shardedName({ name, source }: Pick<Variant, 'name' | 'source'>, { strategy, stages }: ShardPlan): string {
  const kind = strategy === 'tensor' ? `tensor-${new Set(stages.map(({ device }) => device)).size}` : `sharded-${stages.length}`
  return source ? kind : `${name}-${kind}`
}

/** Puts a finished folder in the place of the one before. */
async function keep(made: string, folder: string): Promise<void> {
  await mkdir(dirname(folder), { recursive: true })
  await rm(folder, { recursive: true, force: true })
  await rename(made, folder)
}

/** A count takes the first devices; by hand there is one a stage. */
function optionsOf({
  stages,
  cuts,
  patterns,
  strategy,
  objective,
  devices,
}: ShardPayload): Pick<ShardOptions, 'devices' | 'fewest' | 'strategy' | 'objective' | 'cuts' | 'patterns'> {
  const named = devices.map(({ name, budgetBytes }) => ({ name, ...(budgetBytes === undefined ? {} : { budgetBytes }) }))
  return {
    ...(stages === 'auto' ? { devices: named, fewest: true } : { devices: named.slice(0, stages) }),
    ...(strategy === undefined ? {} : { strategy }),
    ...(objective === undefined ? {} : { objective }),
    cuts,
    patterns,
  }
}

/** Cuts by hand may put more into a stage than its device holds. */
function checkBudgets({ stages }: Sharded, { devices }: ShardPayload): void {
  const [full] = overfull(
    stages,
    devices.map(({ name, budgetBytes = Infinity }) => ({ name, budgetBytes })),
  )
  if (full !== undefined)
    throw new FlyweightError('invalid_plan', `${full.device} would hold ${full.bytes} bytes of weights, more than its budget of ${full.budgetBytes}`)
}

interface Made {
  shards: Shards
  artifact: Pick<Variant, 'digest' | 'file' | 'bytes'>
  measured: { latencies: NonNullable<Variant['profile']>['latencies']; residentBytes: number; loadMs: number }
  rowDims: Record<string, readonly number[]>
  same: boolean
}

function variantOf({ model, version, machine, parent }: ShardPayload, { shards, artifact, measured, rowDims, same }: Made): BuiltVariant {
  const { latencies, residentBytes, loadMs } = measured
  const name = shardedName(parent, shards.plan)
  const device = [...new Set(shards.plan.stages.map((stage) => stage.device))].join('+')
  return {
    ...{ id: variantId(model, version, name), model, version, name, source: false, recipe: parent.recipe, ...artifact, shards },
    fidelity: parent.fidelity,
    profile: { machine, device, rowDims, latencies, residentBytes, loadMs, measuredAt: new Date().toISOString() },
    state: same ? 'ready' : 'rejected',
    reason: same ? '' : 'its stages do not answer as the whole model does',
    sizeOnly: parent.sizeOnly,
  }
}
