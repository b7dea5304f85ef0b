// Training divided over ranks, as an engine of steps: each step's rows are divided over them, and the result is that of
// one process, whoever takes part, unless ranks take steps alone. It has the data and the state, and computes no steps. A round in which a rank is
// lost begins again with those left; ranks that join are members from the next one on.
import { FlyweightError } from '../../errors.js'
import { STATE, type Carried, type Shard } from '../step.js'
import type { Advance, Batch, StepEngine, TrainState } from '../step-engine.js'
import { stepOptions } from '../step-settings.js'
import { divideRows } from './divide-rows.js'
import { OUTER_MOMENTUM } from './local-sgd.js'
import type { FromRank, RankPlan, Round, Seat, ShareOfStep } from './messages.js'
import { OpenRound, type Done } from './open-round.js'
import type { RankLink, Ranks } from './ranks.js'
import { cutSlots, joinSlots, shardsOf } from './shards.js'
import { boardMemory, closeBoard } from './shared-exchange.js'

export interface CoordinatorOptions {
  ranks: Ranks
  plan: RankPlan
  state: readonly Carried[]
  /** How long to wait for a rank where there is none. */
  waitMs: number
}

/** Faults of the training rather than of a rank: every rank would find them. */
const FAULTS: ReadonlySet<string> = new Set(['invalid_model', 'invalid_input'])

interface Member {
  ready: boolean
  /** The last completed round that it was in. */
  completed?: number
  /** What it has slots of since then; undefined: all. */
  shard?: Shard | undefined
}

interface Board {
  number: number
  memory: SharedArrayBuffer
  members: readonly RankLink[]
}

class RankLost extends Error {}

export function openCoordinator(options: CoordinatorOptions): StepEngine {
  return new Coordinator(options)
}

class Coordinator implements StepEngine {
  readonly state: readonly Carried[]
  readonly syncEvery: number
  readonly #ranks: Ranks
  readonly #plan: RankPlan
  readonly #waitMs: number
  /** Where the optimizer is sharded: how many parameters there are, and which vectors are in shards. */
  readonly #sharded: { count: number; slots: readonly string[] } | undefined
  readonly #members = new Map<RankLink, Member>()
  #rounds = 0
  #open: OpenRound | undefined
  /** Of those who share memory, as long as they are the same. */
  #board: Board | undefined
  /** The last round that was completed, and the state at its end. */
  #last: { round: number; state: TrainState } | undefined
  #fault: FlyweightError | undefined
  #lost = ''
  #changed = () => {}

  constructor({ ranks, plan, state, waitMs }: CoordinatorOptions) {
    const { syncEvery, outer, shardOptimizer } = plan.step.settings.parallel
    const count = state.find(({ name }) => name === STATE.parameters)?.count
    this.state = outer === undefined ? state : [...state, { name: OUTER_MOMENTUM, count, initial: 0 }]
    this.syncEvery = syncEvery
    this.#sharded = shardOptimizer ? { count: count as number, slots: stepOptions(plan.step).optimizer.slots } : undefined
    this.#ranks = ranks
    this.#plan = plan
    this.#waitMs = waitMs
    ranks.listen({
      join: (link) => this.#welcome(link),
      message: (link, message) => this.#receive(link, message),
      leave: (link, reason) => this.#lose(link, reason),
    })
    for (const link of ranks.links) this.#welcome(link)
  }

  async advance(from: TrainState, batches: readonly Batch[], learningRates: readonly number[]): Promise<Advance> {
    for (;;) {
      const members = await this.#present()
      try {
        return await this.#round(from, { batches, learningRates, members })
      } catch (error) {
        if (!(error instanceof RankLost)) throw error
      }
    }
  }

  release(): Promise<void> {
    return this.#ranks.release()
  }

  #welcome(link: RankLink): void {
    this.#members.set(link, { ready: false })
    link.send({ kind: 'setup', plan: this.#plan })
  }

  #receive(link: RankLink, message: FromRank): void {
    const member = this.#members.get(link)
    if (member === undefined) return
    if (message.kind === 'failed') return this.#fail(link, message)
    if (message.kind !== 'ready') return this.#open?.receive(link, message)
    member.ready = true
    this.#changed()
  }

  #fail(link: RankLink, { round, code, message }: Extract<FromRank, { kind: 'failed' }>): void {
    if (round !== undefined && round !== this.#open?.number) return
    if (FAULTS.has(code)) {
      this.#fault = new FlyweightError(code, message)
      this.#open?.fail(this.#fault)
      this.#changed()
    } else {
      link.send({ kind: 'stop' })
      this.#lose(link, message)
    }
  }

  #lose(link: RankLink, reason: string): void {
    if (!this.#members.delete(link)) return
    this.#lost = `; the last one lost was ${link.id}: ${reason}`
    if (this.#open?.members.includes(link)) this.#open.fail(new RankLost())
    this.#changed()
  }

  /** Those who can take part; at first, all that are there are waited for. */
  async #present(): Promise<RankLink[]> {
    let waited = false
    for (;;) {
      if (this.#fault !== undefined) throw this.#fault
      const members = [...this.#members]
      const ready = members.filter(([, member]) => member.ready).map(([link]) => link)
      if (ready.length > 0 && (ready.length === members.length || this.#last !== undefined)) return ready
      if (members.length === 0 && waited) throw new FlyweightError('internal', `no rank is left to train on${this.#lost}`)
      await new Promise<void>((resolve) => {
        const timer = members.length === 0 ? setTimeout(resolve, this.#waitMs) : undefined
        this.#changed = () => {
          clearTimeout(timer)
          resolve()
        }
      })
      waited = members.length === 0
    }
  }

  async #round(
    from: TrainState,
    { batches, learningRates, members: present }: { batches: readonly Batch[]; learningRates: readonly number[]; members: RankLink[] },
  ): Promise<Advance> {
    const shares = batches.map((batch) => divideRows(batch, Math.min(present.length, this.#sharded?.count ?? Infinity)))
    const members = present.slice(0, shares[0]?.length)
    const shards = this.#sharded === undefined ? [] : shardsOf(this.#sharded.count, members.length)
    const number = ++this.#rounds
    const round = new OpenRound(number, members)
    this.#open = round
    const board = this.#boardFor(members)
    for (const [index, link] of members.entries()) {
      const steps = shares.map((share, step): ShareOfStep => {
        const { rows, share: weight } = share[index] as { rows: Batch; share: number }
        return { rows, weight, learningRate: learningRates[step] as number }
      })
      link.send({
        kind: 'round',
        round: number,
        ...this.#startOf(link, from, shards[index]),
        steps,
        report: index === 0,
        ...(board && { seat: { ...board, member: index } }),
      })
    }
    try {
      const done = await round.result
      for (const [index, link] of members.entries()) this.#members.set(link, { ready: true, completed: number, shard: shards[index] })
      this.#last = { round: number, state: this.#endOf(done) }
      const losses = new Float32Array(batches.length)
      for (const [index, one] of done.entries()) {
        for (const [step, loss] of one.losses.entries()) losses[step]! += loss * (shares[step]?.[index]?.share as number)
      }
      return { state: this.#last.state, losses }
    } catch (error) {
      if (this.#board !== undefined) closeBoard(this.#board.memory)
      this.#board = undefined
      for (const link of members) if (this.#members.has(link)) link.send({ kind: 'abandon', round: number })
      throw error
    } finally {
      this.#open = undefined
    }
  }

  /** Where the members meet; undefined where some share no memory with the others. */
  #boardFor(members: readonly RankLink[]): Omit<Seat, 'member'> | undefined {
    if (!members.every(({ sharesMemory }) => sharesMemory)) return undefined
    const known = this.#board
    const isSame = known?.members.length === members.length && known.members.every((link, index) => link === members[index])
    // Gradients and statistics, or all of the state; and parameters once more, for shards of them. What is not used takes no memory.
    const floats = this.state.reduce((sum, { name, count = 1 }) => sum + (name === STATE.parameters ? 2 * count : count), 0)
    const board = isSame ? known : { number: this.#rounds, memory: boardMemory(members.length, floats), members }
    this.#board = board
    return { board: board.number, memory: board.memory, members: members.length }
  }

  #endOf(done: readonly Done[]): TrainState {
    const [first, ...others] = done.map(({ state }) => state) as [TrainState, ...TrainState[]]
    if (this.#sharded === undefined) return first
    const shards = [first, ...others].map(({ vectors }) => vectors)
    return { step: first.step, vectors: { ...first.vectors, ...joinSlots(shards, this.#sharded.slots) } }
  }

  /** What a rank begins with: of the state only what it does not have, and of slots only its shard. */
  #startOf(link: RankLink, state: TrainState, shard: Shard | undefined): Pick<Round, 'from' | 'state' | 'shard'> {
    const [last, member] = [this.#last, this.#members.get(link)]
    const known = last !== undefined && last.state === state && member?.completed === last.round
    if (shard === undefined) return known ? { from: last.round } : { from: undefined, state }
    if (known && member.shard?.offset === shard.offset && member.shard.count === shard.count) return { from: last.round, shard }
    const slots = cutSlots(state.vectors, this.#sharded?.slots ?? [], shard)
    if (known) return { from: last.round, state: { step: state.step, vectors: slots }, shard }
    return { from: undefined, state: { step: state.step, vectors: { ...state.vectors, ...slots } }, shard }
  }
}
