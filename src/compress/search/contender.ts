// What a search knows of its candidates: the facts that come out of a trial, and the contenders among them. Types, and
// what tells them apart.
import type { SearchCandidate } from '../../measurements.js'
import type { BuildRequest, BuildResult } from '../build.js'
import type { Standing } from './front.js'

/** A candidate that is finite and faithful, and nowhere slower or smaller than the source model. */
export interface Contender extends Standing {
  recipe: string
  built: BuildResult
  /** SHA-256 of its file: different recipes may give the same model. */
  digest: string
}

export type Known = Omit<SearchCandidate, 'fate' | 'reason'>

/** What is known of a candidate after its trial: with a verdict where it is out, as a contender where it is not. */
export type Trial = Known &
  ({ verdict: { fate: Exclude<SearchCandidate['fate'], 'front'>; reason: string }; contender?: undefined } | { verdict?: undefined; contender: Contender })

/** All but the recipe and its folder. */
export type TrialRequest = Omit<BuildRequest, 'request' | 'workDir'> & { signal: AbortSignal }

export function knownOf({ verdict: _verdict, contender: _contender, ...known }: Trial): Known {
  return known
}
