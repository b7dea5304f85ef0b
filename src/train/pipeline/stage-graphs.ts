// The models that one stage runs: a forward pass, a backward pass and the update, with what each reads of the batch, of
// the other stages and of what the stage keeps from its forward to its backward pass of the same micro-batch.
import { model as makeModel, valueInfo } from '../../onnx/builder.js'
import { usedTensors } from '../../onnx/graph.js'
import { encodeModel, type NodeProto } from '../../onnx/proto.js'
import type { Optimizer } from '../optimizers/optimizer.js'
import { emitUpdate, STATE, type CarriedState, type StepOptions } from '../step.js'
import { type Batch } from '../step-engine.js'
import { updateGraph } from '../step-graphs.js'
import { writtenBy } from './assign-stages.js'
import { isRandom } from './place-nodes.js'
import { PASSES, type PlacedStage, type PlacedStep } from './placed-step.js'

type Bytes = Uint8Array<ArrayBuffer>

export interface PassGraph {
  model: Bytes
  /** Columns of the batch. */
  columns: readonly string[]
  /** Values of the micro-batch: from other stages, or kept. */
  values: readonly string[]
  /** The stage's state and the weight. */
  outside: readonly string[]
  outputs: readonly string[]
  /** What goes to which stages, of the outputs. */
  sends: readonly { to: number; names: readonly string[] }[]
}

export interface StageGraphs {
  /** Absent where the backward pass computes all that the forward pass would, and nobody waits for it. */
  forward: PassGraph | undefined
  /** Absent where nothing is trained from here on back. */
  backward: PassGraph | undefined
  /** Values that stay from the forward to the backward pass. */
  kept: readonly string[]
  /** Columns that either pass reads. */
  columns: readonly string[]
  /** Scalar that multiplies the micro-batch's gradients. */
  weight: string
  /** Outputs of either pass. */
  loss: string
  gradients: string | undefined
  statistics: string | undefined
}

export interface StageUpdate {
  model: Bytes
  state: readonly CarriedState[]
  gradients: string
  statistics: string | undefined
  learningRate: string
  /** Scalar: the norm of all stages' gradients, where the update goes by it. */
  norm: string | undefined
}

export interface CutOptions {
  batch: Batch
  /** Backward passes compute forward passes again, rather than reading what they kept. */
  recompute: boolean
  /** The last stage's backward pass does the forward pass, too, which comes right before it. */
  joined: boolean
}

/** The graphs of all stages, for micro-batches like `batch`. */
export function stageGraphs(step: PlacedStep, options: CutOptions): StageGraphs[] {
  const cutter = new Cutter(step, options)
  const last = step.stages.length - 1
  const own = (stage: PlacedStage) => (stage.updatedStatistics === undefined ? [] : [stage.updatedStatistics])
  // Gradients go from later stages to earlier ones, values from earlier to later ones: each direction is followed from its end.
  const backward = step.stages.map((stage, index) => {
    const joined = index === last && options.joined
    const ends = [...(stage.gradients === undefined ? [] : [stage.gradients]), ...(joined ? [step.loss, ...own(stage)] : [])]
    return cutter.cut(index, { pass: 'backward', joined, ends })
  })
  const forward = step.stages.toReversed().map((stage, reversed) => {
    const index = last - reversed
    if (index === last && options.joined) return undefined
    return cutter.cut(index, { pass: 'forward', joined: false, ends: [...(index === last ? [step.loss] : []), ...own(stage)] })
  })
  forward.reverse()
  return step.stages.map(({ gradients, updatedStatistics: statistics }, index): StageGraphs => {
    const [ahead, back] = [forward[index], backward[index]]
    const columns = [...new Set([...(ahead?.columns ?? []), ...(back?.columns ?? [])])]
    return {
      forward: ahead && cutter.finish(index, ahead),
      backward: back && cutter.finish(index, back),
      kept: back === undefined ? [] : cutter.keptFor(back),
      columns,
      weight: step.weight,
      loss: step.loss,
      gradients,
      statistics,
    }
  })
}

interface Cut {
  nodes: readonly NodeProto[]
  inputs: readonly string[]
  outputs: readonly string[]
  columns: readonly string[]
  values: readonly string[]
  outside: readonly string[]
}

/** Follows what passes need, and who has to hand it over. */
class Cutter {
  readonly #step: PlacedStep
  readonly #options: CutOptions
  readonly #outside: ReadonlySet<string>
  readonly #places = new Map<string, { stage: number; backward: boolean }>()
  /** By tensor, the stages that read it, the one that writes it among them where it keeps it. */
  readonly #readers = new Map<string, Set<number>>()

  constructor(step: PlacedStep, options: CutOptions) {
    this.#step = step
    this.#options = options
    this.#outside = new Set([...step.state.map(({ before }) => before), step.weight])
    for (const [stage, { nodes }] of step.stages.entries()) {
      for (const pass of PASSES) {
        for (const node of nodes[pass]) for (const name of writtenBy(node)) this.#places.set(name, { stage, backward: pass === 'backward' })
      }
    }
  }

  /** The nodes of a pass that are needed for `ends` and for what others read; undefined where nothing is. */
  cut(stage: number, { pass, joined, ends }: { pass: 'forward' | 'backward'; joined: boolean; ends: readonly string[] }): Cut | undefined {
    const { nodes } = this.#step.stages[stage] as PlacedStage
    const isBackward = pass === 'backward'
    const again = joined || this.#options.recompute
    const forward = isBackward ? (again ? nodes.forward.filter((node) => joined || !isRandom(node)) : []) : nodes.forward
    const candidates = [...nodes.free, ...forward, ...(isBackward ? nodes.backward : [])]
    const asked = [...this.#readers.keys()].filter((name) => {
      const place = this.#places.get(name)
      return place?.stage === stage && place.backward === isBackward
    })
    const outputs = [...new Set([...ends, ...asked])]
    if (outputs.length === 0) return undefined
    const needed = new Set(outputs)
    const kept = candidates.toReversed().filter((node) => {
      if (!node.output.some((name) => needed.has(name))) return false
      for (const name of usedTensors(node)) needed.add(name)
      return true
    })
    kept.reverse()
    const written = new Set(kept.flatMap(writtenBy))
    const inputs = [...needed].filter((name) => !written.has(name) && (this.#places.has(name) || this.#outside.has(name) || name in this.#options.batch))
    const values = inputs.filter((name) => this.#places.has(name))
    for (const name of values) this.#readers.set(name, (this.#readers.get(name) ?? new Set()).add(stage))
    return {
      nodes: kept,
      inputs,
      outputs,
      values,
      columns: inputs.filter((name) => name in this.#options.batch),
      outside: inputs.filter((name) => this.#outside.has(name)),
    }
  }

  /** Once all passes of all stages are cut. */
  finish(stage: number, { nodes, inputs, outputs, ...read }: Cut): PassGraph {
    const info = (name: string) => {
      const { dtype, dims } = this.#describe(stage, name)
      return valueInfo(name, dtype, dims)
    }
    const used = new Set(nodes.flatMap((node) => [...usedTensors(node)]))
    const model = makeModel({
      name: `stage_${stage}`,
      inputs: inputs.map(info),
      outputs: outputs.map(info),
      nodes,
      initializers: this.#step.initializers.filter(({ name }) => used.has(name)),
    })
    const readers = [...new Set(outputs.flatMap((name) => [...(this.#readers.get(name) ?? [])]))].filter((reader) => reader !== stage)
    const sends = readers.map((to) => ({ to, names: outputs.filter((name) => this.#readers.get(name)?.has(to)) }))
    return { model: encodeModel(model), ...read, outputs, sends }
  }

  /** What a backward pass reads of forward passes. */
  keptFor({ values }: Cut): string[] {
    return values.filter((name) => this.#places.get(name)?.backward === false)
  }

  #describe(stage: number, name: string): ReturnType<PlacedStep['describe']> {
    const { parameters, statistics, gradients, updatedStatistics } = this.#step.stages[stage] as PlacedStage
    const flat = (count: number) => ({ dtype: 'float32' as const, dims: [count] })
    const carried = this.#step.state.find(({ before }) => before === name)
    if (carried?.name === STATE.parameters || name === gradients) return flat(parameters.count)
    if (carried?.name === STATE.statistics || name === updatedStatistics) return flat(statistics.count)
    if (carried !== undefined || name === this.#step.weight || name === this.#step.loss) return { dtype: 'float32', dims: [] }
    return this.#options.batch[name] ?? this.#step.describe(name)
  }
}

/** An optimizer of nothing: of a stage that has no parameters. */
const idle: Optimizer = { name: 'idle', slots: [], emit: (_, { parameters }) => ({ parameters, slots: [] }) }

/** The update of one stage's parameters, by the gradients of a whole step. */
export function stageUpdate(step: PlacedStep, stage: PlacedStage, { form, optimizer, clip, lossScale }: StepOptions): StageUpdate {
  const { parameters, statistics, updatedStatistics } = stage
  const { unique } = step
  const own = parameters.count === 0 ? idle : optimizer
  const counts = new Map<string, number | undefined>([
    [STATE.parameters, parameters.count],
    [STATE.statistics, statistics.count],
    ...optimizer.slots.map((slot): [string, number] => [slot, parameters.count]),
  ])
  const absent = new Set([...(statistics.count === 0 ? [STATE.statistics as string] : []), ...(own === idle ? optimizer.slots : [])])
  const state = step.state.filter(({ name }) => !absent.has(name)).map((one) => ({ ...one, count: counts.get(one.name) }))
  const [gradients, learningRate] = [stage.gradients ?? unique('gradients'), unique('learning_rate')]
  const norm = clip === undefined && lossScale === undefined ? undefined : unique('norm')
  const given = { state, unique, gradients: [gradients], statistics: updatedStatistics, learningRate, norm }
  const update = emitUpdate({ form: { ...form, parameters, statistics }, optimizer: own, clip, lossScale }, given)
  const model = updateGraph({ ...given, buckets: [parameters], update })
  return { model: encodeModel(model), state, gradients, statistics: updatedStatistics, learningRate, norm }
}
