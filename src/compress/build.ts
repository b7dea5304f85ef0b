// One build from model to judged variant: choose, run the passes, compare, measure, judge. Knows neither
// the registry nor jobs: the command line uses it on plain files, job processes on a model's artifacts.
import { join } from 'node:path'
import type { BatchLatency, DecisionReport, GateLatency, Recipe } from '../measurements.js'
import { loadModel, saveModel } from '../onnx/load.js'
import { packModel, plainBytes } from '../onnx/packed.js'
import { profileInterleaved } from '../runtime/profiler.js'
import { runtimeVersion } from '../runtime/session.js'
import type { Tensor } from '../tensor/tensor.js'
import { choosePreset } from './choose.js'
import { evaluate } from './evaluate.js'
import { judge } from './gate.js'
import { interfaceChange } from './interface-change.js'
import { executedKernels } from './kernels.js'
import type { GradientSource, PassContext, Tuner } from './passes/pass.js'
import { passNamed } from './passes/table.js'
import { parseRecipe, variantName } from './recipe.js'
import { holdOut, type Samples } from './samples.js'
import type { SourceOutputs } from './source-outputs.js'

export interface BuildRequest {
  sourceFile: string
  sourceDigest: string
  /** Preset, short string or steps, as parseRecipe reads them. */
  request: unknown
  samples: Samples
  /** Samples to judge the result on; without them some of `samples` are kept back for that, where there are enough. */
  evaluation?: Samples
  /** Keeps the source model's outputs on the samples judged on, where several builds have these in common. */
  sourceOutputs?: SourceOutputs
  /** Computes gradients for passes that prune by them; without it they refuse. */
  gradients?: GradientSource
  /** Trains models for passes that recover or prune so; without it they refuse. */
  tune?: Tuner
  /** The samples are noise: good for measuring speed, not for calibrating. */
  synthetic: boolean
  /** Rows a batch of this model may have: 1 where its batch dimension is fixed. */
  maxBatch: number
  /** Inputs of `batch` rows to measure with. */
  feedsAt(batch: number): Record<string, Tensor>
  /** Batch sizes to measure. */
  batches: readonly number[]
  minFidelity: number
  device: string
  threads: number
  /** Measuring time per batch size. */
  profileBudgetMs?: number
  /** Folder for the result (`model.onnx`) and for scratch. */
  workDir: string
  onProgress?: (fraction: number, step: string) => void
  signal?: AbortSignal
}

export interface BuildResult {
  file: string
  name: string
  recipe: Recipe
  sizeOnly: boolean
  report: DecisionReport
  latencies: readonly BatchLatency[]
}

/** Which share of a build's time each part takes, roughly: for progress. */
const SHARES = { passes: 0.3, evaluate: 0.2, profile: 0.5 }
/** Changes whenever a pass may give another artifact for the same recipe. */
const TOOLCHAIN_VERSION = 6

/**
 * Builds and judges one variant. The same model, recipe, samples and toolchain give a byte-identical file.
 * @throws FlyweightError `invalid_recipe`, `invalid_model`, `cancelled`; a variant the gate turns down is a result, not an error.
 */
export async function buildVariant(build: BuildRequest): Promise<BuildResult> {
  const { sourceFile, workDir, device, threads, synthetic, signal } = build
  const { calibration, evaluation, heldOut } =
    build.evaluation === undefined ? holdOut(build.samples) : { calibration: build.samples, evaluation: build.evaluation, heldOut: true }
  const progress = build.onProgress ?? (() => undefined)
  const file = join(workDir, 'model.onnx')
  const { choice, recipe, name, nodes, passes, newInterface } = await compress(build, calibration, file)
  const sizeOnly = recipe.every(({ pass }) => passNamed(pass)?.sizeOnly(device) ?? false)

  const { fidelity: compared, finite } = await evaluate({
    sourceFile,
    variantFile: file,
    samples: evaluation,
    synthetic,
    batch: Math.min(8, build.maxBatch),
    sourceOutputs: build.sourceOutputs,
    device,
    threads,
    signal,
    onProgress: (fraction) => progress(SHARES.passes + fraction * SHARES.evaluate, 'comparing with the source model'),
  })
  const kernels = device === 'cpu' ? await executedKernels(file, workDir) : undefined
  const fidelity = { ...compared, heldOut, calibrationSamples: calibration.rows }
  const { latencies, gateLatencies } = await measure(build, file, (fraction, step) => progress(1 - SHARES.profile + fraction * SHARES.profile, step))
  const [sourceBytes, variantBytes] = [await plainBytes(sourceFile), await packModel(file, { signal })]
  const changedNodes = nodes.filter(({ action }) => action === 'done').length
  const judged = judge({
    changedNodes,
    finite,
    fidelity: fidelity.score,
    minFidelity: build.minFidelity,
    latencies: gateLatencies,
    sizeOnly,
    sourceBytes,
    variantBytes,
  })
  const gate = newInterface === undefined ? judged : { ...judged, admitted: false, reason: newInterface }
  const report: DecisionReport = {
    recipe,
    ...(choice === undefined ? {} : { chosenBecause: choice.because }),
    toolchain: `flyweight-compress ${TOOLCHAIN_VERSION}, ${runtimeVersion}`,
    sourceDigest: build.sourceDigest,
    nodes,
    passes,
    ...(kernels === undefined ? {} : { kernels }),
    fidelity,
    gate,
    sourceBytes,
    variantBytes,
  }
  return { file, name, recipe, sizeOnly, report, latencies }
}

interface Compressed extends Pick<DecisionReport, 'nodes' | 'passes'> {
  choice: ReturnType<typeof choosePreset> | undefined
  recipe: Recipe
  name: string
  /** In what the variant's inputs and outputs differ from the source's, if they do. */
  newInterface: string | undefined
}

/** Takes the source model through the passes and writes the result to `file`. No model stays in memory longer than the step that needs it. */
async function compress(build: BuildRequest, calibration: Samples, file: string): Promise<Compressed> {
  const { sourceFile, device, threads, maxBatch, workDir, signal } = build
  const asked = parseRecipe(build.request)
  let model = await loadModel(sourceFile)
  const choice = asked.preset === undefined ? undefined : choosePreset(asked.preset, model, { hasSamples: !build.synthetic })
  const recipe = choice?.recipe ?? asked.recipe ?? []
  const { input, output } = model.graph
  const nodes: DecisionReport['nodes'][number][] = []
  const passes: DecisionReport['passes'][number][] = []
  for (const [index, step] of recipe.entries()) {
    const pass = passNamed(step.pass)
    if (pass === undefined) throw new Error(`recipe names a pass "${step.pass}" that does not exist`)
    const start = performance.now()
    const onProgress = (fraction: number, what: string) => build.onProgress?.(((index + fraction) / recipe.length) * SHARES.passes, `${pass.name}: ${what}`)
    onProgress(0, 'starting')
    const loadOriginal = () => loadModel(sourceFile)
    const context: PassContext = {
      loadOriginal,
      device,
      samples: calibration,
      maxBatch,
      threads,
      workDir,
      signal,
      onProgress,
      ...(build.gradients === undefined ? {} : { gradients: build.gradients }),
      ...(build.tune === undefined ? {} : { tune: build.tune }),
    }
    const result = await pass.run(model, step, context)
    model = result.model
    nodes.push(...result.decisions)
    passes.push({ pass: pass.name, seconds: (performance.now() - start) / 1000, summary: result.summary })
  }
  await saveModel(model, file)
  return { choice, recipe, name: asked.preset ?? variantName(recipe), nodes, passes, newInterface: interfaceChange({ input, output }, model.graph) }
}

async function measure(
  build: BuildRequest,
  file: string,
  progress: (fraction: number, step: string) => void,
): Promise<{ latencies: readonly BatchLatency[]; gateLatencies: GateLatency[] }> {
  const { feedsAt, batches, device, threads, profileBudgetMs, signal } = build
  const profiles = await profileInterleaved({
    subjects: [
      { name: 'parent', file: build.sourceFile },
      { name: 'variant', file },
    ],
    feedsAt,
    batches,
    device,
    threads,
    ...(profileBudgetMs === undefined ? {} : { budgetMs: profileBudgetMs }),
    ...(signal === undefined ? {} : { signal }),
    onProgress: ({ fraction, batch }) => progress(fraction, `measuring batch ${batch}`),
  })
  const [parent, variant] = [profiles.get('parent'), profiles.get('variant')]
  const latencies = variant?.latencies ?? []
  const gateLatencies = latencies.map(({ batch, p50Ms }, index) => ({
    batch,
    parentP50Ms: parent?.latencies[index]?.p50Ms ?? Number.NaN,
    variantP50Ms: p50Ms,
    ratio: variant?.ratios[index]?.ratio ?? Number.NaN,
  }))
  return { latencies, gateLatencies }
}
