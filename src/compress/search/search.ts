// Recipe `auto`: tries candidates within a time budget and keeps the Pareto front of latency, bytes and fidelity. What
// is good so far can be used at once. Which candidates there are is candidates.ts's business, what beats what front.ts's.
import { FlyweightError } from '../../errors.js'
import type { SearchReport } from '../../measurements.js'
import { loadModel } from '../../onnx/load.js'
import { plainBytes } from '../../onnx/packed.js'
import type { BuildRequest, BuildResult } from '../build.js'
import { examine, mixedRecipes, type Insight } from './analysis.js'
import { canBeMixed, comesBeforeMixing, firstProposals, furtherProposals, leadsOn, type Proposal } from './candidates.js'
import { weightCounts } from './facts.js'
import { evenlySpaced } from '../samples.js'
import { keptOutputs } from '../source-outputs.js'
import { divide, mayServe, type Standing } from './front.js'
import { measureAgain } from './measure.js'
import { reportOf, variantOf, type KeptVariant } from './story.js'
import type { Contender, Trial, TrialRequest } from './contender.js'
import { tryRecipe, withMeasured } from './trial.js'

/** The model, and the inputs to try variants on. */
export type SearchSource = Pick<BuildRequest, 'samples' | 'evaluation' | 'synthetic' | 'maxBatch' | 'feedsAt'> & { file: string; digest: string }

export type SearchOptions = Pick<BuildRequest, 'batches' | 'minFidelity' | 'device' | 'threads'> & {
  budgetSeconds: number
  /** Time to measure one candidate at one batch size; default: a hundredth of the budget, within limits. */
  profileBudgetMs?: number
}

export interface SearchContext {
  /** Takes the variants' folders; whoever made it removes it when it has what it wants. */
  workDir: string
  /** Told of each variant that is good so far, as soon as it is; returns the digest under which it was stored. */
  keep?(variant: KeptVariant): Promise<string>
  /** Told of the report as it stands after each candidate. */
  onReport?(report: SearchReport): void
  onProgress?: (fraction: number, step: string) => void
  /** When it aborts, the search ends with what it has. */
  signal?: AbortSignal
}

export interface SearchResult {
  report: SearchReport
  /** The front but for the source model, as measured last. */
  kept: readonly KeptVariant[]
}

/** Share of the budget after which no candidate is begun, and the one in progress is ended: the rest is for measuring the front again. */
const TRIALS_SHARE = 0.8
/** Share of the budget that looking for the nodes to leave in float may take, for each recipe that is looked at so. */
const MIXING_SHARE = 0.25
/** Rows that a candidate is calibrated on at most: thousands would take the budget, and ranges settle before. */
const MOST_ROWS = 256
/** Bytes of the source model's outputs that are kept between comparisons. */
const MOST_KEPT_BYTES = 2 ** 27
/** Default share of the budget for measuring one candidate at one batch size, and its limits in milliseconds. */
const MEASURING = { share: 0.01, least: 50, most: 1500 }

/**
 * Searches for `options.budgetSeconds`, or less where all candidates were tried before. A candidate in progress when its
 * time ends is given up at the next point where it can stop, which may be a whole run of a model or step of a pass later.
 * @throws FlyweightError `invalid_model` for a source model that cannot be read, and what `context.keep` throws
 */
export async function searchVariants(source: SearchSource, options: SearchOptions, context: SearchContext): Promise<SearchResult> {
  const start = performance.now()
  const elapsed = () => (performance.now() - start) / 1000
  const { budgetSeconds, batches } = options
  const profileBudgetMs = options.profileBudgetMs ?? Math.min(MEASURING.most, Math.max(MEASURING.least, budgetSeconds * 1000 * MEASURING.share))
  const trialsEnd = stopAfter(budgetSeconds * TRIALS_SHARE, context.signal)
  const end = stopAfter(budgetSeconds, context.signal)
  const [model, bytes] = [await loadModel(source.file), await plainBytes(source.file)]
  const reference: Standing = { bytes, fidelity: 1, ratios: batches.map((batch) => ({ batch, ratio: 1 })) }
  const trials: Trial[] = []
  const digests = new Map<string, string>()
  const insights = new Map<string, Insight>()
  const report = () => reportOf({ budgetSeconds, elapsedSeconds: elapsed(), reference, trials, digests })
  const request = requestOf(source, options, trialsEnd.signal)
  let furthest = 0
  // Candidates are added as others succeed: what was told of the whole must not shrink again.
  const tell = (done: number, total: number, step: string) => {
    furthest = Math.max(furthest, progress(elapsed() / budgetSeconds, done, total))
    context.onProgress?.(furthest, step)
  }

  const run = async ({ recipe, skip }: Proposal, left: number): Promise<Trial> => {
    const skipped = (reason: string): Trial => ({ recipe, seconds: 0, verdict: { fate: 'skipped', reason } })
    if (skip !== undefined) return skipped(skip)
    if (trialsEnd.signal.aborted) return skipped(`${trialsEnd.why()} before it was tried`)
    const onProgress = (fraction: number, step: string) => tell(trials.length + fraction, trials.length + left, `${recipe}: ${step}`)
    const look = canBeMixed(recipe)
      ? async (built: BuildResult) => {
          insights.set(recipe, await examine(recipe, built, request, context.workDir))
        }
      : undefined
    return tryRecipe(
      recipe,
      { ...request, onProgress },
      { folder: context.workDir, earlier: trials, budgetMs: profileBudgetMs, ...(look === undefined ? {} : { look }) },
    )
  }
  const mixed = async (recipe: string): Promise<Proposal[]> => {
    const insight = insights.get(recipe)
    if (insight === undefined) return []
    tell(trials.length, trials.length + 1, `${recipe}: looking for nodes to leave in float`)
    const mixingEnd = stopAfter(budgetSeconds * MIXING_SHARE, trialsEnd.signal)
    try {
      const recipes = await mixedRecipes(insight, { source: model, request: { ...request, signal: mixingEnd.signal }, folder: context.workDir })
      return recipes.map((found) => ({ recipe: found }))
    } finally {
      mixingEnd.clear()
    }
  }
  const keepFront = async () => {
    for (const contender of frontOf(reference, trials)) {
      if (!digests.has(contender.recipe)) digests.set(contender.recipe, (await context.keep?.(variantOf(contender, options.minFidelity))) ?? contender.digest)
    }
  }

  try {
    const waiting = firstProposals({ device: options.device, hasSamples: !source.synthetic, weights: weightCounts(model) })
    const unmixed: string[] = []
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      trials.push(await run(next, waiting.length + 1))
      await keepFront()
      context.onReport?.(report())
      if (canBeMixed(next.recipe)) unmixed.push(next.recipe)
      if (!waiting.some(({ recipe }) => comesBeforeMixing(recipe))) {
        const found: Proposal[] = []
        for (const recipe of unmixed.splice(0)) found.push(...(await mixed(recipe)))
        waiting.unshift(...found)
      }
      const isWaiting = new Set(waiting.map(({ recipe }) => recipe))
      if (waiting.length === 0 || leadsOn(next.recipe)) waiting.unshift(...furtherProposals(trials).filter(({ recipe }) => !isWaiting.has(recipe)))
    }
    tell(1, 1, 'measuring the best again')
    const serving = frontOf(reference, trials).filter(mayServe)
    const measured = await measureAgain(serving, { ...request, milliseconds: (budgetSeconds - elapsed()) * 1000, signal: end.signal })
    for (const [index, trial] of trials.entries()) {
      if (trial.contender !== undefined) trials[index] = withMeasured(trial, measured.get(trial.recipe), bytes)
    }
    await keepFront()
  } finally {
    trialsEnd.clear()
    end.clear()
  }
  return { report: report(), kept: frontOf(reference, trials).map((contender) => variantOf(contender, options.minFidelity)) }
}

function requestOf(
  { file, digest, samples, ...inputs }: SearchSource,
  { budgetSeconds: _seconds, profileBudgetMs: _ms, ...options }: SearchOptions,
  signal: AbortSignal,
): TrialRequest {
  // Where samples serve for both, half of them are judged on.
  const few = evenlySpaced(samples, inputs.evaluation === undefined ? 2 * MOST_ROWS : MOST_ROWS)
  return { ...inputs, ...options, samples: few, sourceOutputs: keptOutputs(MOST_KEPT_BYTES), sourceFile: file, sourceDigest: digest, signal }
}

/** The contenders that nothing beats, in the order of trial. */
function frontOf(reference: Standing, trials: readonly Trial[]): Contender[] {
  const contenders = trials.flatMap(({ contender }) => contender ?? [])
  return divide<Standing>([reference, ...contenders]).front.filter((entry): entry is Contender => entry !== reference)
}

/** A signal that aborts after `seconds`, or as soon as `outer` does; its reason says which. */
function stopAfter(seconds: number, outer: AbortSignal | undefined): { signal: AbortSignal; why(): string; clear(): void } {
  const controller = new AbortController()
  const cancel = () => controller.abort(new FlyweightError('cancelled', 'the search was cancelled'))
  const timer = setTimeout(() => controller.abort(new FlyweightError('cancelled', 'the budget ended')), seconds * 1000)
  if (outer?.aborted === true) cancel()
  outer?.addEventListener('abort', cancel, { once: true })
  return {
    signal: controller.signal,
    why: () => (controller.signal.reason as Error).message,
    clear: () => {
      clearTimeout(timer)
      outer?.removeEventListener('abort', cancel)
    },
  }
}

function progress(timeShare: number, done: number, total: number): number {
  return Math.min(TRIALS_SHARE, Math.max(timeShare, (TRIALS_SHARE * done) / total))
}
