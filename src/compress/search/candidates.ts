// Which recipes a search tries, in which order, and which it leaves out for what reason. Pure: what the model is made
// of and what the trials so far gave comes in, proposals come out.
import type { WeightCounts } from './facts.js'
import { mayServe, type Standing } from './front.js'

/** A recipe to try; with `skip`, one that is not worth a trial, and why. */
export interface Proposal {
  recipe: string
  skip?: string
}

export interface Subject {
  device: string
  /** Whether there are real inputs to calibrate on. */
  hasSamples: boolean
  weights: WeightCounts
}

const NO_SAMPLES = 'it calibrates on sample inputs, and there are none'
const FLOAT_ONLY = 'integer kernels are for the CPU; GPUs are fast in half precision'

/**
 * The recipes that are tried first: those that usually gain most come first, since the budget may end. That is the way to
 * quantize that suits most of the weights, then what is nearly free.
 */
export function firstProposals({ device, hasSamples, weights }: Subject): Proposal[] {
  const { convolution, depthwise, product, embedding, recurrent } = weights
  const convolutions = convolution + depthwise
  const cpu = device.startsWith('cpu')
  const unless = (reason: string, holds: boolean) => (holds ? undefined : reason)
  const calibrated = unless(NO_SAMPLES, hasSamples)
  const integer = unless(FLOAT_ONLY, cpu)
  const weighted = unless('the model has no convolutions or products with constant weights', convolutions + product > 0)
  const isStatic = integer ?? weighted ?? calibrated
  const inDynamic = product + recurrent + embedding
  const isDynamic = integer ?? unless('the model has no products, LSTM or embeddings with constant weights', inDynamic > 0)
  const inBlocks = unless('the model has no products or embeddings with constant weights', product + embedding > 0)
  const smooth = isStatic ?? unless('the model has no products with constant weights, whose inputs it evens out', product > 0)

  const half = proposal(hasSamples ? 'fp16' : 'fp16(search=false)')
  const quantized = [proposal('int8-static', isStatic), proposal('int8-dynamic', isDynamic)]
  const [likely, other] = (convolutions > inDynamic ? quantized : quantized.toReversed()) as [Proposal, Proposal]
  return [
    ...(cpu ? [] : [half]),
    likely,
    proposal('simplify'),
    other,
    proposal(pruned(FIRST_RATIO), weighted ?? calibrated),
    proposal('int8-static(calibration=min-max)', isStatic),
    proposal('smooth-quant+int8-static', smooth),
    ...(cpu ? [half] : []),
    proposal('int4', inBlocks),
    proposal('int4(method=gptq)', inBlocks ?? calibrated),
    ...(depthwise > 0 ? [proposal('int8-static(depthwise=false)', isStatic)] : []),
  ]
}

/** Whether a recipe is one whose nodes are looked at one by one, to leave some in float. */
export function canBeMixed(recipe: string): boolean {
  return recipe === 'int8-static' || recipe === 'int8-dynamic'
}

/** Whether a recipe is to be tried before any precisions are mixed, which takes more time than to try it. */
export function comesBeforeMixing(recipe: string): boolean {
  return recipe === 'simplify' || canBeMixed(recipe)
}

/** What became of a recipe: its fidelity where it got so far, and what it is worth where it is of use. */
export interface Tried {
  recipe: string
  fidelity?: number
  contender?: Standing | undefined
}

/** Whether what the trial of a recipe suggests is to be tried next, not after all others. */
export function leadsOn(recipe: string): boolean {
  return RATIOS.map(pruned).includes(recipe)
}

/** What the trials so far suggest: more or fewer channels; and once their number is found, what helped one by one together. */
export function furtherProposals(tried: readonly Tried[]): Proposal[] {
  const known = new Set(tried.map(({ recipe }) => recipe))
  const fresh = (recipes: readonly string[]) => recipes.filter((recipe) => !known.has(recipe)).map((recipe) => proposal(recipe))
  const ratios = fresh(ratioProposals(tried))
  return ratios.length > 0 ? ratios : fresh(joinedProposals(tried))
}

const FIRST_RATIO = 0.3
/** Shares of channels to remove, one step up while the outputs stay close, one down while they do not. */
const RATIOS = [0.1, 0.2, FIRST_RATIO, 0.45, 0.6, 0.75]
/** Fidelity up to which fewer channels are tried, and from which on more. */
const CLOSE = 0.995

function pruned(ratio: number): string {
  return `prune-channels(ratio=${ratio})+recover`
}

function ratioProposals(tried: readonly Tried[]): string[] {
  const fidelityAt = (ratio: number) => tried.find(({ recipe }) => recipe === pruned(ratio))?.fidelity
  const known = RATIOS.filter((ratio) => fidelityAt(ratio) !== undefined)
  const close = known.filter((ratio) => fidelityAt(ratio)! >= CLOSE)
  if (known.length === 0) return []
  const next = close.length > 0 ? RATIOS.indexOf(Math.max(...close)) + 1 : RATIOS.indexOf(Math.min(...known)) - 1
  return RATIOS[next] === undefined ? [] : [pruned(RATIOS[next])]
}

/**
 * What makes the float model faster, together: the most pruning that keeps the outputs close, and `simplify` after it,
 * since pruned channels are known by the names of the source model. Then the same before each way to quantize that helped.
 */
function joinedProposals(tried: readonly Tried[]): string[] {
  const serving = tried.filter(({ contender }) => contender !== undefined && mayServe(contender))
  const helps = (recipe: string) => serving.some((one) => one.recipe === recipe)
  const smaller = serving.findLast(({ recipe, fidelity = 0 }) => RATIOS.map(pruned).includes(recipe) && fidelity >= CLOSE)?.recipe
  const float = [...(smaller === undefined ? [] : [smaller]), ...(helps('simplify') ? ['simplify'] : [])]
  if (float.length === 0) return []
  const before = float.join('+')
  const quantized = serving.map(({ recipe }) => recipe).filter((recipe) => /^int8-(dynamic|static)/.test(recipe))
  return [before, ...quantized.map((recipe) => `${before}+${recipe}`)]
}

function proposal(recipe: string, skip?: string): Proposal {
  return { recipe, ...(skip === undefined ? {} : { skip }) }
}
