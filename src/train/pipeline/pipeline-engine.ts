// Training divided over stages, as an engine of steps: each stage has its part of the model, of the gradients and of the
// optimizer, and micro-batches go through all of them and back. Replicas of the pipeline divide the rows among them.
import { FlyweightError } from '../../errors.js'
import { optionError } from '../options.js'
import { divideRows } from '../parallel/divide-rows.js'
import { makeAllTheSum } from '../parallel/sums.js'
import { carriedBy, type Carried } from '../step.js'
import type { Advance, Batch, StepEngine, TrainState } from '../step-engine.js'
import { stepOptions, type StepSettings } from '../step-settings.js'
import type { Model, TrainingForm } from '../training-form.js'
import type { FromStage, MicroBatch, StageStep, Vector } from './messages.js'
import { graphMaker } from './pipeline-graphs.js'
import { cutState, joinStates, type StageLayouts } from './stage-state.js'
import type { StageLink, Stages } from './stages.js'

export interface PipelineOptions {
  model: Model
  form: TrainingForm
  step: StepSettings
  /** Of as many pipelines as the settings' `data`, and as many stages as its `pipeline`. */
  stages: Stages
  /** Intra-op threads of each stage. */
  threads: number
}

export interface PipelineEngine extends StepEngine {
  /** By stage, the most bytes that a replica kept at once for backward passes so far. */
  readonly peakStashBytes: readonly number[]
}

/** A stage that is lost is the end of the training. */
export function openPipelineEngine(options: PipelineOptions): PipelineEngine {
  return new Pipeline(options)
}

type Done = Extract<FromStage, { kind: 'done' }>

class Pipeline implements PipelineEngine {
  readonly state: readonly Carried[]
  readonly peakStashBytes: number[]
  readonly #options: PipelineOptions
  readonly #stages: Stages
  readonly #make: ReturnType<typeof graphMaker>
  /** By number of rows and stage, the columns that are read. */
  readonly #columns = new Map<number, readonly (readonly string[])[]>()
  #layouts: readonly StageLayouts[] | undefined
  /** The state that all stages have. */
  #last: TrainState | undefined
  #run: { done: Map<StageLink, Done>; resolve: (done: Map<StageLink, Done>) => void; reject: (error: Error) => void } | undefined
  #failure: Error | undefined
  /** By stage, what its replicas have sent while not all have; none is more than one sum ahead. */
  readonly #vectors = new Map<number, Map<StageLink, readonly Vector[]>>()
  readonly #squares = new Map<StageLink, number>()

  constructor(options: PipelineOptions) {
    const { model, form, step, stages } = options
    this.#options = options
    this.state = carriedBy({ ...stepOptions(step), form })
    this.peakStashBytes = Array.from({ length: step.settings.parallel.pipeline }, () => 0)
    this.#make = graphMaker(model, step)
    this.#stages = stages
    this.#stages.listen({
      message: (link, message) => this.#receive(link, message),
      lost: (link, reason) => this.#fail(new FlyweightError('internal', `${nameOf(link)} was lost: ${reason}`)),
    })
  }

  async advance(from: TrainState, batches: readonly Batch[], learningRates: readonly number[]): Promise<Advance> {
    const { data, microBatches } = this.#options.step.settings.parallel
    const divided = batches.map((batch) => divideRows(batch, data * microBatches))
    const least = Math.min(...divided.map(({ length }) => length))
    if (least < data * microBatches)
      throw optionError('/parallel/microBatches', `got ${microBatches} in each of ${data} pipelines, expected no more than the ${least} rows of a step`)
    for (const { rows } of divided.flat()) await this.#prepare(rows)
    if (this.#failure !== undefined) throw this.#failure
    const layouts = { whole: this.#options.form, parts: this.#layouts ?? [] }
    const ended = new Promise<Map<StageLink, Done>>((resolve, reject) => {
      this.#run = { done: new Map(), resolve, reject }
    })
    for (const link of this.#stages.links) {
      const steps = divided.map((parts, index): StageStep => {
        const micro = parts.slice(link.replica * microBatches, (link.replica + 1) * microBatches).map(({ rows, share }) => this.#microBatch(link, rows, share))
        return { step: from.step + index, learningRate: learningRates[index] as number, micro }
      })
      const known = from === this.#last
      const state = known ? {} : { state: cutState(from, this.state, { whole: layouts.whole, part: layouts.parts[link.stage] as StageLayouts }) }
      link.send({ kind: 'run', steps, ...state, report: link.replica === 0 })
    }
    const done = await ended
    this.#run = undefined
    const losses = new Float32Array(batches.length)
    const states: TrainState[] = []
    // In the order of links, so that sums have the same bits every time.
    for (const link of this.#stages.links) {
      const one = done.get(link) as Done
      for (const [step, loss] of one.losses.entries()) losses[step]! += loss
      this.peakStashBytes[link.stage] = Math.max(this.peakStashBytes[link.stage] as number, one.peakStashBytes)
      if (one.state !== undefined) states[link.stage] = one.state
    }
    this.#last = joinStates(states, this.state, layouts)
    return { state: this.#last, losses }
  }

  release(): Promise<void> {
    return this.#stages.release()
  }

  #microBatch({ stage }: StageLink, rows: Batch, weight: number): MicroBatch {
    const read = this.#columns.get(rowsOf(rows))?.[stage] ?? []
    return { rows: rowsOf(rows), weight, columns: Object.fromEntries(read.map((name) => [name, rows[name] as Batch[string]])) }
  }

  /** Makes the graphs for micro-batches of so many rows, where there are none yet, and hands them to all stages. */
  async #prepare(batch: Batch): Promise<void> {
    const rows = rowsOf(batch)
    if (this.#columns.has(rows)) return
    const { pipeline: stages, data: replicas, schedule } = this.#options.step.settings.parallel
    const { graphs, layouts, updates } = await this.#make(batch)
    for (const link of this.#stages.links) {
      const { stage } = link
      const [update, own] = [updates[stage] as (typeof updates)[number], graphs[stage] as (typeof graphs)[number]]
      if (this.#layouts === undefined) link.send({ kind: 'setup', plan: { stage, stages, replicas, schedule, threads: this.#options.threads, update } })
      link.send({ kind: 'graphs', rows, graphs: own })
    }
    this.#layouts ??= layouts
    this.#columns.set(
      rows,
      graphs.map(({ columns }) => columns),
    )
  }

  #receive(link: StageLink, message: FromStage): void {
    switch (message.kind) {
      case 'vectors':
        return this.#sum(link, message)
      case 'squares':
        return this.#norm(link, message)
      case 'done':
        this.#run?.done.set(link, message)
        if (this.#run?.done.size === this.#stages.links.length) this.#run.resolve(this.#run.done)
        return
      case 'failed':
        return this.#fail(new FlyweightError(message.code, `${nameOf(link)}: ${message.message}`))
    }
  }

  #fail(error: Error): void {
    this.#failure ??= error
    this.#run?.reject(this.#failure)
  }

  /** Sums over replicas, in their order. */
  #sum(link: StageLink, { vectors }: Extract<FromStage, { kind: 'vectors' }>): void {
    const arrived = (this.#vectors.get(link.stage) ?? new Map<StageLink, readonly Vector[]>()).set(link, vectors)
    this.#vectors.set(link.stage, arrived)
    const replicas = this.#stages.links.filter(({ stage }) => stage === link.stage)
    if (arrived.size < replicas.length) return
    this.#vectors.delete(link.stage)
    const all = replicas.map((replica) => arrived.get(replica) as readonly Vector[])
    for (const index of vectors.keys()) makeAllTheSum(all.map((one) => one[index] as Vector))
    for (const [index, replica] of replicas.entries()) {
      const sums = all[index] as readonly Vector[]
      replica.send(
        { kind: 'sums', vectors: sums },
        sums.map(({ buffer }) => buffer),
      )
    }
  }

  /** The norm over stages; replicas have the same gradients by then, so that the first one's count. */
  #norm(link: StageLink, { squares }: Extract<FromStage, { kind: 'squares' }>): void {
    this.#squares.set(link, squares)
    const { links } = this.#stages
    if (this.#squares.size < links.length) return
    const sum = links.reduce((total, one) => total + (one.replica === 0 ? (this.#squares.get(one) as number) : 0), 0)
    this.#squares.clear()
    for (const one of links) one.send({ kind: 'norm', norm: Math.sqrt(sum) })
  }
}

function nameOf({ stage, replica }: StageLink): string {
  return `stage ${stage} of pipeline ${replica}`
}

function rowsOf(batch: Batch): number {
  return Object.values(batch)[0]?.dims[0] ?? 0
}
