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

/** The recipes that are tried first: those that usually gain most come first, since the budget may end. */
export function firstProposals({ device, hasSamples, weights }: Subject): Proposal[] {
  const { convolution, depthwise, product, embedding, recurrent } = weights
  const convolutions = convolution + depthwise
  const cpu = device.startsWith('cpu')
  const unless = (reason: string, holds: boolean) => (holds ? undefined : reason)
  const calibrated = unless(NO_SAMPLES, hasSamples)
  const integer = unless(FLOAT_ONLY, cpu)
  const quantizable = unless('the model has no convolutions or products with constant weights', convolutions + product > 0)
  const isStatic = integer ?? quantizable ?? calibrated
  const inDynamic = product + recurrent + embedding
  const isDynamic = integer ?? unless('the model has no products, LSTM or embeddings with constant weights', inDynamic > 0)
  const inBlocks = unless('the model has no products or embeddings with constant weights', product + embedding > 0)
  const smooth = isStatic ?? unless('the model has no products with constant weights, whose inputs it evens out', product > 0)

  const half = proposal('fp16', calibrated)
  const statics = [proposal('int8-static', isStatic), proposal('int8-static(calibration=percentile)', isStatic), proposal('smooth-quant+int8-static', smooth)]
  const dynamics = [proposal('int8-dynamic', isDynamic)]
  const [static_, ...moreStatics] = statics as [Proposal, ...Proposal[]]
  const quantized = convolutions > inDynamic ? [static_, ...dynamics] : [...dynamics, static_]
  return [
    ...(cpu ? [] : [half]),
    proposal('simplify'),
    ...quantized,
    ...moreStatics,
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

/** What the trials so far suggest: recipes joined with `simplify` where that alone made the model faster. */
export function furtherProposals(tried: ReadonlyMap<string, Standing | undefined>): Proposal[] {
  const simplified = tried.get('simplify')
  if (simplified === undefined || !mayServe(simplified)) return []
  return [...tried]
    .filter(([recipe, standing]) => standing !== undefined && mayServe(standing) && /^(int8-dynamic|int8-static)/.test(recipe))
    .map(([recipe]) => ({ recipe: `simplify+${recipe}` }))
    .filter(({ recipe }) => !tried.has(recipe))
}

function proposal(recipe: string, skip?: string): Proposal {
  return { recipe, ...(skip === undefined ? {} : { skip }) }
}
