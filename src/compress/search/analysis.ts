// What a search looks up in a quantized candidate to mix precisions: how long its nodes take and which of them make
// its error. How the error is found out is output-error.ts's business, what follows from the figures mixed.ts's.
import { cp, mkdtemp } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { nodeTimes, type NodeTime } from '../../runtime/node-times.js'
import type { BuildResult } from '../build.js'
import type { Model } from '../passes/pass.js'
import type { TrialRequest } from './contender.js'
import { excluding, sensitiveSets, slowNodes, timesByLabel } from './mixed.js'
import { errorByBuild, errorByBypass } from './output-error.js'

/** Scores from here on leave nothing to gain that would be noticed. */
const GOOD_ENOUGH = 0.998
/** Rows of the batch that nodes are timed at. */
const TIMED_ROWS = 8
const RUNS = 5

/** What a trial leaves behind for mixing precisions. */
export interface Insight {
  recipe: string
  /** Labels of the nodes that the recipe quantized, in order. */
  quantized: readonly string[]
  times: readonly NodeTime[]
  fidelity: number
  /** A copy of the model, where its quantization can be taken out of it node by node. */
  file: string | undefined
}

/** Looks at a variant while it is there; a copy that may be needed later goes into `folder`. */
export async function examine(recipe: string, { file, report }: BuildResult, request: TrialRequest, folder: string): Promise<Insight> {
  const quantized = report.nodes.filter(({ action }) => action === 'done').map(({ node }) => node)
  const fidelity = report.fidelity.score
  const needed = fidelity < GOOD_ENOUGH && report.recipe.some(({ pass }) => pass === 'int8-static')
  return { recipe, quantized, times: await timesOf(file, request), fidelity, file: needed ? await copied(file, folder) : undefined }
}

/** Recipes with some nodes in float, the most promising first; none where the candidate is as good as it can be, or time is up. */
export async function mixedRecipes(insight: Insight, { source, request, folder }: { source: Model; request: TrialRequest; folder: string }): Promise<string[]> {
  const { recipe, quantized, fidelity, times, file } = insight
  const before = timesByLabel(await timesOf(request.sourceFile, request), source.graph)
  const slow = slowNodes(quantized, before, timesByLabel(times, source.graph))
  const sets: string[][] = []
  if (fidelity < GOOD_ENOUGH) {
    const probe = file === undefined ? errorByBuild(recipe, request, folder) : errorByBypass(file, request)
    const floatBut = (labels: readonly string[]) => probe.errorWith(quantized.filter((label) => !labels.includes(label)))
    sets.push(...(await sensitiveSets(quantized, (label) => before.get(label) ?? 0, floatBut)))
    await probe.release()
  }
  const all = slow.length > 0 && slow.length < quantized.length ? [...sets, slow] : sets
  return all.map((labels) => excluding(recipe, labels))
}

/** None where they cannot be had or time is up: precisions can be mixed without. */
function timesOf(file: string, { feedsAt, maxBatch, device, threads, signal }: TrialRequest): Promise<NodeTime[]> {
  return nodeTimes(file, { feeds: feedsAt(Math.min(TIMED_ROWS, maxBatch)), device, threads, runs: RUNS, signal }).catch(() => [])
}

async function copied(file: string, folder: string): Promise<string> {
  const copy = await mkdtemp(join(folder, 'examined-'))
  await cp(dirname(file), copy, { recursive: true })
  return join(copy, basename(file))
}
