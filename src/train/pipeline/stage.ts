// One stage of a pipeline, in a thread of its own: takes its passes in the schedule's order, each as soon as what it
// reads is there, hands on what others wait for, and updates its own parameters after the last one.
import { FlyweightError, messageOf } from '../../errors.js'
import { openSession, type Session } from '../../runtime/session.js'
import type { Tensor } from '../../tensor/tensor.js'
import { STATE } from '../step.js'
import { carriedFeeds, carriedResults, type TrainState } from '../step-engine.js'
import { HeldValues } from './held-values.js'
import type { FromStage, Handover, MicroBatch, StagePlan, StageStep, ToStage, Vector } from './messages.js'
import { schedules } from './schedules.js'
import type { PassGraph, StageGraphs } from './stage-graphs.js'

export interface StagePort {
  send(message: FromStage, moved?: readonly ArrayBuffer[]): void
  /** To another stage; buffers may be moved. */
  hand(to: number, message: Handover, moved: readonly ArrayBuffer[]): void
  /** Called once. Messages of one sender come in order. */
  listen(listener: { onMessage(message: ToStage): void; onHandover(message: Handover): void }): void
  /** After the last message has been sent. */
  close(): void
}

interface OpenPass extends Omit<PassGraph, 'model'> {
  session: Session
}

interface OpenGraphs extends Omit<StageGraphs, 'forward' | 'backward' | 'kept'> {
  forward: OpenPass | undefined
  backward: OpenPass | undefined
  kept: ReadonlySet<string>
}

/** Serves a coordinator until it says stop. */
export function runStage(port: StagePort): void {
  const stage = new Stage(port)
  let turn: Promise<void> = Promise.resolve()
  const inTurn = (work: () => unknown) => {
    turn = turn.then(work).then(undefined, (error: unknown) => {
      if (!stage.abandoned) port.send({ kind: 'failed', code: error instanceof FlyweightError ? error.code : 'internal', message: messageOf(error) })
    })
  }
  port.listen({
    onHandover: (message) => stage.held.put(message),
    onMessage: (message) => {
      switch (message.kind) {
        case 'setup':
          return inTurn(() => stage.setUp(message.plan))
        case 'graphs':
          return inTurn(() => stage.open(message.rows, message.graphs))
        case 'run':
          return inTurn(() => stage.run(message))
        case 'sums':
        case 'norm':
          return stage.answer(message)
        case 'stop':
          stage.abandon()
          return inTurn(async () => {
            await stage.release()
            port.close()
          })
      }
    },
  })
}

type Answer = Extract<ToStage, { kind: 'sums' | 'norm' }>

class Stage {
  readonly held = new HeldValues()
  abandoned = false
  readonly #port: StagePort
  #plan!: StagePlan
  #update!: Session
  #state!: TrainState
  readonly #graphs = new Map<number, OpenGraphs>()
  #waiting: { resolve: (answer: Answer) => void; reject: (error: Error) => void } | undefined

  constructor(port: StagePort) {
    this.#port = port
  }

  async setUp(plan: StagePlan): Promise<void> {
    this.#plan = plan
    this.#update = await openSession(plan.update.model, { threads: plan.threads })
  }

  async open(rows: number, { forward, backward, kept, ...names }: StageGraphs): Promise<void> {
    const opened = async ({ model, ...pass }: PassGraph): Promise<OpenPass> => ({ ...pass, session: await openSession(model, { threads: this.#plan.threads }) })
    this.#graphs.set(rows, { ...names, forward: forward && (await opened(forward)), backward: backward && (await opened(backward)), kept: new Set(kept) })
  }

  async run({ steps, state, report }: Extract<ToStage, { kind: 'run' }>): Promise<void> {
    if (state !== undefined) this.#state = state
    const losses = new Float32Array(steps.length)
    for (const [index, step] of steps.entries()) losses[index] = await this.#step(step)
    const { peakStashBytes } = this.held
    this.#port.send({ kind: 'done', losses, peakStashBytes, ...(report ? { state: this.#state } : {}) })
  }

  /** An exchange with the coordinator is one question and one answer, so that nothing else can be meant. */
  answer(answer: Answer): void {
    this.#waiting?.resolve(answer)
    this.#waiting = undefined
  }

  abandon(): void {
    this.abandoned = true
    this.held.abandon()
    this.#waiting?.reject(new Error('the training was abandoned'))
  }

  async release(): Promise<void> {
    for (const { forward, backward } of this.#graphs.values()) {
      await forward?.session.release()
      await backward?.session.release()
    }
    await (this.#update as Session | undefined)?.release()
  }

  async #step({ step, learningRate, micro }: StageStep): Promise<number> {
    const { stage, stages, schedule } = this.#plan
    const done = { loss: 0, gradients: undefined as Vector | undefined, statistics: this.#state.vectors[STATE.statistics] }
    const orders = schedules[schedule](stages, micro.length)
    for (const { pass, micro: index } of orders[stage] ?? []) {
      const part = micro[index] as MicroBatch
      const graphs = this.#graphs.get(part.rows) as OpenGraphs
      const { loss, statistics = '', gradients = '' } = graphs
      const results = await this.#pass(graphs, { pass, step, index, part, statistics: done.statistics })
      if (pass === 'forward') this.held.stash(step, index, graphs.kept)
      else this.held.forget(step, index)
      if (loss in results) done.loss += part.weight * Number(results[loss]?.data[0])
      if (statistics in results) done.statistics = results[statistics]?.data as Vector
      if (gradients in results) done.gradients = addTo(done.gradients, results[gradients]?.data as Vector)
    }
    const share = micro.reduce((sum, { weight }) => sum + weight, 0)
    await this.#take({ learningRate, share, gradients: done.gradients ?? new Float32Array(), statistics: done.statistics })
    return done.loss
  }

  /** Runs a pass, keeps what the other pass of the micro-batch needs, and hands on what other stages wait for. */
  async #pass(
    { kept, weight, ...passes }: OpenGraphs,
    { pass, step, index, part, statistics }: { pass: 'forward' | 'backward'; step: number; index: number; part: MicroBatch; statistics: Vector | undefined },
  ): Promise<Record<string, Tensor>> {
    const graph = passes[pass]
    if (graph === undefined) return {}
    const { vectors } = this.#state
    const state = { step, vectors: statistics === undefined ? vectors : { ...vectors, [STATE.statistics]: statistics } }
    const outside: Record<string, Tensor> = {
      ...carriedFeeds(this.#plan.update.state, state, ({ before }) => before),
      [weight]: scalar(part.weight),
    }
    const feeds: Record<string, Tensor> = await this.held.take(step, index, graph.values)
    for (const name of graph.columns) feeds[name] = part.columns[name] as Tensor
    for (const name of graph.outside) feeds[name] = outside[name] as Tensor
    const results = await graph.session.run(feeds)
    const own = graph.outputs.filter((name) => kept.has(name))
    if (own.length > 0) this.held.put({ step, micro: index, tensors: Object.fromEntries(own.map((name) => [name, results[name] as Tensor])) })
    const wanted = (name: string) => graph.sends.filter(({ names }) => names.includes(name)).length
    for (const { to, names } of graph.sends) {
      const tensors = Object.fromEntries(names.map((name) => [name, results[name] as Tensor]))
      this.#port.hand(
        to,
        { step, micro: index, tensors },
        buffersOf(names.filter((name) => wanted(name) === 1 && !kept.has(name)).map((name) => tensors[name] as Tensor)),
      )
    }
    return results
  }

  /** Sums over replicas, the norm over stages, and the update. */
  async #take(given: { learningRate: number; share: number; gradients: Vector; statistics: Vector | undefined }): Promise<void> {
    const { replicas, update } = this.#plan
    let { gradients, statistics } = given
    const { learningRate, share } = given
    if (replicas > 1) {
      const vectors = [gradients, ...(statistics === undefined ? [] : [statistics.map((value) => value * share)])]
      const sums = await this.#ask(
        { kind: 'vectors', vectors },
        vectors.map(({ buffer }) => buffer),
      )
      ;[gradients = gradients, statistics] = sums.kind === 'sums' ? sums.vectors : []
    }
    const feeds = carriedFeeds(update.state, this.#state, ({ before }) => before)
    feeds[update.gradients] = flat(gradients)
    feeds[update.learningRate] = scalar(learningRate)
    if (update.statistics !== undefined) feeds[update.statistics] = flat(statistics as Vector)
    if (update.norm !== undefined) {
      const answer = await this.#ask({ kind: 'squares', squares: gradients.reduce((sum, value) => sum + value * value, 0) })
      feeds[update.norm] = scalar(answer.kind === 'norm' ? answer.norm : 0)
    }
    this.#state = carriedResults(update.state, await this.#update.run(feeds), this.#state.step + 1, ({ after }) => after)
  }

  #ask(question: Extract<FromStage, { kind: 'vectors' | 'squares' }>, moved: readonly ArrayBuffer[] = []): Promise<Answer> {
    if (this.abandoned) throw new Error('the training was abandoned')
    const answer = new Promise<Answer>((resolve, reject) => {
      this.#waiting = { resolve, reject }
    })
    this.#port.send(question, moved)
    return answer
  }
}

function flat(data: Vector): Tensor {
  return { dtype: 'float32', dims: [data.length], data }
}

function scalar(value: number): Tensor {
  return { dtype: 'float32', dims: [], data: Float32Array.of(value) }
}

function addTo(sum: Vector | undefined, values: Vector): Vector {
  if (sum === undefined) return values
  for (let at = 0; at < sum.length; at++) sum[at]! += values[at] as number
  return sum
}

/** Buffers that hold one tensor and nothing else. */
function buffersOf(tensors: readonly Tensor[]): ArrayBuffer[] {
  return tensors.flatMap(({ data }) => (Array.isArray(data) || data.byteLength !== data.buffer.byteLength ? [] : [data.buffer]))
}
