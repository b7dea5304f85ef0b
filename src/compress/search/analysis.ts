// What a search looks up in a quantized candidate to mix precisions: how long its nodes take and which of them make
// its error, by short trials on a few rows. What follows from the figures is mixed.ts's business.
import { mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { nodeTimes, type NodeTime } from '../../runtime/node-times.js'
import { buildVariant, type BuildResult } from '../build.js'
import type { Model } from '../passes/pass.js'
import { holdOut, type Samples } from '../samples.js'
import { excluding, sensitiveSets, slowNodes, timesByLabel } from './mixed.js'
import type { TrialRequest } from './contender.js'

/** Rows to calibrate on and to compare on: enough to rank nodes by. */
const [CALIBRATION_ROWS, EVALUATION_ROWS] = [16, 32]
/** Scores from here on leave nothing to gain that would be noticed. */
const GOOD_ENOUGH = 0.998
/** Rows of the batch that nodes are timed at. */
const TIMED_ROWS = 8
const RUNS = 5

/** What a trial leaves behind for mixing precisions. */
export interface Insight {
  /** Labels of the nodes that the recipe quantized, in order. */
  quantized: readonly string[]
  times: readonly NodeTime[]
  fidelity: number
}

export async function examine({ file, report }: BuildResult, request: TrialRequest): Promise<Insight> {
  const quantized = report.nodes.filter(({ action }) => action === 'done').map(({ node }) => node)
  return { quantized, times: await timesOf(file, request), fidelity: report.fidelity.score }
}

export interface Subject {
  recipe: string
  insight: Insight
  source: Model
  request: TrialRequest
  /** Takes the short trials' folders. */
  folder: string
}

/** Recipes with some nodes in float, the most promising first; none where the candidate is as good as it can be, or time is up. */
export async function mixedRecipes({ recipe, insight, source, request, folder }: Subject): Promise<string[]> {
  const { quantized, fidelity, times } = insight
  const before = timesByLabel(await timesOf(request.sourceFile, request), source.graph)
  const slow = slowNodes(quantized, before, timesByLabel(times, source.graph))
  const errorWithout = async (labels: readonly string[]) =>
    request.signal.aborted ? undefined : errorOf(excluding(recipe, [...slow, ...labels]), request, folder)
  const faithful = fidelity >= GOOD_ENOUGH
  const sets = faithful
    ? []
    : await sensitiveSets(
        quantized.filter((label) => !slow.includes(label)),
        (label) => before.get(label) ?? 0,
        errorWithout,
      )
  const all = [...(slow.length > 0 && slow.length < quantized.length ? [[]] : []), ...sets]
  return [...new Set(all.map((labels) => excluding(recipe, [...slow, ...labels])))]
}

/** None where they cannot be had or time is up: precisions can be mixed without. */
function timesOf(file: string, { feedsAt, maxBatch, device, threads, signal }: TrialRequest): Promise<NodeTime[]> {
  return nodeTimes(file, { feeds: feedsAt(Math.min(TIMED_ROWS, maxBatch)), device, threads, runs: RUNS, signal }).catch(() => [])
}

/** Power of the error of all outputs relative to theirs, summed: infinite where the model cannot be built; undefined where time is up. */
async function errorOf(recipe: string, request: TrialRequest, folder: string): Promise<number | undefined> {
  const workDir = await mkdtemp(join(folder, 'short-'))
  try {
    const divided = request.evaluation === undefined ? holdOut(request.samples) : { calibration: request.samples, evaluation: request.evaluation }
    const samples = firstRows(divided.calibration, CALIBRATION_ROWS)
    const evaluation = firstRows(divided.evaluation, EVALUATION_ROWS)
    const { report } = await buildVariant({ ...request, request: recipe, samples, evaluation, batches: [], workDir })
    return Object.values(report.fidelity.outputs).reduce((sum, { sqnrDb }) => sum + 10 ** (-sqnrDb / 10), 0)
  } catch {
    return request.signal.aborted ? undefined : Infinity
  } finally {
    await rm(workDir, { recursive: true, force: true })
  }
}

function firstRows(samples: Samples, most: number): Samples {
  const { rows, digest, labels, alike } = samples
  return {
    rows: Math.min(rows, most),
    digest: `${digest}/first ${most}`,
    labels,
    take: (from, count) => samples.take(from, count),
    ...(alike === undefined ? {} : { alike: (from: number, count: number) => samples.alike?.(from, count) ?? count }),
  }
}
