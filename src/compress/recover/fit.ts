// Fits layer after layer: runs the original and the pruned model up to each level of nodes, gathers the linear system of
// each, solves it, and keeps what makes the error smaller on samples that were not fitted.
import { FlyweightError } from '../../errors.js'
import { create, ValueInfoProtoSchema, type NodeProto } from '../../onnx/proto.js'
import { GraphIndex } from '../../onnx/graph.js'
import { freeOutputs } from '../../runtime/free-outputs.js'
import { mulberry32 } from '../../runtime/sample-inputs.js'
import type { Session } from '../../runtime/session.js'
import { CALIBRATION_BATCH } from '../calibration/min-max.js'
import { modelUpTo } from '../calibration/model-up-to.js'
import { openModel } from '../open-model.js'
import { labelOf } from '../passes/decisions.js'
import type { Model, PassContext } from '../passes/pass.js'
import { batchesOf, type Samples } from '../samples.js'
import { HELD_OUT } from './divide.js'
import { keptChannels } from './kept.js'
import { layerOf, sumAfter, type Layer } from './layer.js'
import { solve, workOf, type Change, type GroupMoments } from './least-squares.js'
import { levelsOf } from './levels.js'
import { addRows, emptyMoments, openMultiplier, squaredError, type Multiplier } from './moments.js'
import { choosePositions, positionsOf, unfold, type LayerTensors, type Rows } from './unfold.js'

export interface FitOptions {
  ridge: number
  positions: number
  seed: number
  exclude: ReadonlySet<string>
}

export interface FitRequest {
  original: Model
  parts: { fitted: Samples; held: Samples }
  options: FitOptions
}

export interface Outcome {
  changed: boolean
  reason: string
  /** Squared error on held-out samples, as a share of the wanted outputs' variance; absent where nothing was fitted. */
  error?: { before: number; after: number }
}

/** Ridges tried, each ten times the one before, as long as the error on held-out samples falls. */
const MOST_RIDGES = 4
/** Bytes of sums held at a time; one layer is always allowed. */
const MOST_BYTES = 2 ** 28
/** Multiplications for one node, all ridges together; somewhat below a minute. */
const MOST_WORK = 3e10
/** Share of the variance below which an output is as it was but for rounding. */
const ROUNDING = 1e-10

/** A layer with what is known of its system. */
interface Fit {
  layer: Layer
  /** The tensor whose error is made small: the layer's output, or a sum that it is part of. */
  target: string
  channels: readonly number[] | undefined
  moments: GroupMoments[]
  held: Rows[]
  /** Multiplications that solving takes. */
  work: number
  refusal: string | undefined
}

/** Changes `model` in place; an outcome for each of its nodes. Names are those of `original`. */
export async function fitLayers(model: Model, { original, parts, options }: FitRequest, context: PassContext): Promise<Map<NodeProto, Outcome>> {
  const outcomes = new Map<NodeProto, Outcome>()
  const index = new GraphIndex(model.graph)
  const known = new Set(original.graph.node.flatMap(({ output }) => output))
  const layers = new Map<NodeProto, Layer>()
  for (const node of model.graph.node) {
    const layer = options.exclude.has(labelOf(node)) ? { refusal: 'excluded by the recipe' } : layerOf(node, model, index)
    if ('refusal' in layer) outcomes.set(node, { changed: false, reason: layer.refusal })
    else if (!known.has(layer.output)) outcomes.set(node, { changed: false, reason: 'the original model has no tensor by the name of its output' })
    else layers.set(node, layer)
  }
  const kept = keptChannels(model)
  const multiplier = await openMultiplier(context.threads)
  try {
    const { levels, depths } = levelsOf(model.graph, new Set(layers.keys()))
    // The last to be fitted of what is added up also makes up for the errors of the rest.
    const targetOf = (layer: Layer): string => {
      const after = sumAfter(layer, index)
      return after !== undefined && known.has(after.sum) && (depths.get(after.other) ?? 0) < depths.get(layer.output)! ? after.sum : layer.output
    }
    const steps = levels.flatMap((level) => within(level.map((node) => layers.get(node)!)))
    for (const [done, step] of steps.entries()) {
      context.onProgress?.(done / steps.length, `fitting ${step.map(({ node }) => labelOf(node)).join(', ')}`)
      const fits = step.map((layer) => emptyFit(layer, targetOf(layer), kept.get(layer.output)))
      await gather(fits, { model, original, parts, multiplier, options, context })
      for (const fit of fits) outcomes.set(fit.layer.node, await finish(fit, options, multiplier))
    }
  } finally {
    await multiplier.release()
  }
  return outcomes
}

/** In groups whose sums fit into memory together. */
function within(layers: readonly Layer[]): Layer[][] {
  const groups: Layer[][] = []
  let bytes = Number.POSITIVE_INFINITY
  for (const layer of layers) {
    const own = layer.groups * layer.width * (layer.width + layer.rows) * Float64Array.BYTES_PER_ELEMENT
    if (bytes + own > MOST_BYTES) {
      groups.push([])
      bytes = 0
    }
    groups.at(-1)?.push(layer)
    bytes += own
  }
  return groups
}

function emptyFit(layer: Layer, target: string, channels: readonly number[] | undefined): Fit {
  const work = workOf(layer.width, layer.weights())
  const refusal = work > MOST_WORK ? `fitting its ${layer.width} weights a channel would take too long` : undefined
  return { layer, target, channels, moments: refusal === undefined ? emptyMoments(layer) : [], held: [], work, refusal }
}

interface Gathering extends FitRequest {
  model: Model
  multiplier: Multiplier
  context: PassContext
}

/** Runs both models on all samples, and adds what the layers read and put out to their systems. */
async function gather(fits: readonly Fit[], { model, original, parts, multiplier, options, context }: Gathering): Promise<void> {
  const computed = new Set(model.graph.node.flatMap(({ output }) => output))
  const inputs = fits.map(({ layer }) => layer.input).filter((name) => computed.has(name))
  const outputs = fits.map(({ target }) => target)
  const sessions: Session[] = []
  const open = async (of: Model, names: readonly string[]): Promise<Session> => {
    const infos = [...new Set(names)].map((name) => create(ValueInfoProtoSchema, { name }))
    const session = await openModel(modelUpTo(of, infos), { threads: context.threads, workDir: context.workDir })
    sessions.push(session)
    return session
  }
  try {
    const [present, goal] = [await open(model, [...inputs, ...outputs]), await open(original, outputs)]
    const random = mulberry32(options.seed)
    for (const held of [false, true]) {
      const part = held ? parts.held : parts.fitted
      for (const { from, count, feeds } of batchesOf(part, Math.min(CALIBRATION_BATCH, context.maxBatch))) {
        context.signal?.throwIfAborted()
        const [now, wanted] = [await present.run(feeds), await goal.run(feeds)]
        const most =
          Math.ceil((options.positions * (held ? 1 / HELD_OUT : 1) * (from + count)) / part.rows) -
          Math.ceil((options.positions * (held ? 1 / HELD_OUT : 1) * from) / part.rows)
        for (const fit of fits) {
          const tensors = { input: now[fit.layer.input] ?? feeds[fit.layer.input]!, present: now[fit.target]!, wanted: wanted[fit.target]! }
          await add(fit, tensors, { most, held, random, multiplier })
        }
        freeOutputs(now)
        freeOutputs(wanted)
      }
    }
  } finally {
    for (const session of sessions) await session.release()
  }
}

async function add(
  fit: Fit,
  tensors: Omit<LayerTensors, 'channels'>,
  { most, held, random, multiplier }: { most: number; held: boolean; random: () => number; multiplier: Multiplier },
): Promise<void> {
  const { layer } = fit
  if (fit.refusal !== undefined) return
  const channels = channelsOf(fit, tensors)
  if (typeof channels === 'string') {
    fit.refusal = channels
    return
  }
  const rows = unfold(layer, { ...tensors, channels }, choosePositions(positionsOf(layer, tensors.present), most, random))
  if (!rows.inputs.every(Number.isFinite) || !rows.residuals.every(Number.isFinite))
    throw new FlyweightError('invalid_model', `what node "${labelOf(layer.node)}" reads or writes is not finite on the samples`)
  if (held) fit.held.push(rows)
  else await addRows(fit.moments, rows, multiplier)
}

/** Which channels of the wanted output the layer's are, or why that cannot be told. */
function channelsOf({ layer, channels }: Fit, { present, wanted }: Omit<LayerTensors, 'channels'>): readonly number[] | string {
  if (!(present.data instanceof Float32Array) || !(wanted.data instanceof Float32Array)) return 'its output is not float32'
  const axis = layer.node.opType === 'Conv' ? 1 : present.dims.length - 1
  const others = (dims: readonly number[]) => String(dims.filter((_, i) => i !== axis))
  if (others(present.dims) !== others(wanted.dims)) return `its output is [${present.dims}], that of the original model [${wanted.dims}]`
  const [width = 0, original = 0] = [present.dims[axis], wanted.dims[axis]]
  if (channels === undefined && width === original) return Array.from({ length: width }, (_, channel) => channel)
  if (channels?.length !== width || channels.some((channel) => channel >= original)) return `it is not told which of ${original} channels its ${width} are`
  return channels
}

async function finish({ layer, moments, held, work, refusal }: Fit, { ridge }: FitOptions, multiplier: Multiplier): Promise<Outcome> {
  if (refusal !== undefined) return { changed: false, reason: refusal }
  const variance = varianceOf(held)
  const share = async (changes?: readonly Change[]) => (await squaredError(layer, held, multiplier, changes)) / variance
  const before = variance > 0 ? await share() : 0
  if (before <= ROUNDING) return { changed: false, reason: 'its output is that of the original model already' }
  const solutions = (at: number) => {
    const weights = layer.weights()
    const each = layer.rows * layer.width
    return moments.map((sums, group) => solve(sums, { biased: layer.biased, ridge: at, weights: weights.subarray(group * each, (group + 1) * each) }))
  }
  const first = solutions(ridge)
  let chosen = { ridge, changes: first, error: await share(first) }
  for (let rung = 1; rung < MOST_RIDGES && (rung + 1) * work <= MOST_WORK; rung++) {
    const at = ridge * 10 ** rung
    const changes = solutions(at)
    const error = await share(changes)
    if (!(error < chosen.error)) break
    chosen = { ridge: at, changes, error }
  }
  const { changes, error: after } = chosen
  const figures = `error on held-out samples ${percent(before)} of the variance, fitted ${percent(after)} with ridge ${Number(chosen.ridge.toPrecision(3))}`
  if (!(after < before)) return { changed: false, reason: `fitting its weights does not help: ${figures}`, error: { before, after: before } }
  layer.add(joined(changes.map((change) => change.weights)), joined(changes.map((change) => change.bias)))
  return { changed: true, reason: figures, error: { before, after } }
}

/** Σ (wanted − mean of its channel)² over the rows. */
function varianceOf(held: readonly Rows[]): number {
  const [first] = held
  if (first === undefined) return 0
  const channels = first.wanted.length / first.count
  let variance = 0
  for (let channel = 0; channel < channels; channel++) {
    let [count, sum, squares] = [0, 0, 0]
    for (const rows of held) {
      for (let i = 0; i < rows.count; i++) {
        const value = rows.wanted[channel * rows.count + i]!
        sum += value
        squares += value ** 2
      }
      count += rows.count
    }
    variance += squares - sum ** 2 / count
  }
  return variance
}

function joined(parts: readonly Float64Array[]): Float64Array {
  const all = new Float64Array(parts.reduce((sum, { length }) => sum + length, 0))
  let at = 0
  for (const part of parts) {
    all.set(part, at)
    at += part.length
  }
  return all
}

/** A share in percent, as people read it. */
export function percent(share: number): string {
  return `${(share * 100).toPrecision(3)} %`
}
