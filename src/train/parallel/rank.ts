// The program of a rank: computes rounds of steps on the rows it gets, and agrees with the others on gradients. Speaks
// through a port, so that it is the same in a thread and on another machine. It blocks its thread while it computes.
import { FlyweightError, messageOf } from '../../errors.js'
import { STATE, type Shard } from '../step.js'
import type { TrainState } from '../step-engine.js'
import { stepOptions } from '../step-settings.js'
import { divideRows } from './divide-rows.js'
import { messageExchange, type Exchange } from './exchange.js'
import { meet, type Part } from './local-sgd.js'
import type { FromRank, RankPlan, Round, Seat, ShareOfStep, ToRank, Vector } from './messages.js'
import { openReplica, type Replica } from './replica.js'
import { sharedExchange } from './shared-exchange.js'
import type { SpareVectors } from './spare-vectors.js'
import { addTo } from './sums.js'
import { Answers } from './answers.js'

export interface RankPort {
  send(message: FromRank): void
  /** Called once. Messages come in the order they were sent. */
  listen(onMessage: (message: ToRank) => void): void
  /** After the last message has been sent. */
  close(): void
}

/** Serves a coordinator until it says stop. */
export function runRank(port: RankPort): void {
  const rank: Rank = { port, states: new Map(), plan: undefined, slots: [], replica: undefined, seat: undefined }
  const open = new Map<number, Answers>()
  let turn: Promise<void> = Promise.resolve()
  const inTurn = (work: () => unknown, round?: number) => {
    turn = turn.then(work).then(undefined, (error: unknown) => {
      const code = error instanceof FlyweightError ? error.code : 'internal'
      port.send({ kind: 'failed', ...(round === undefined ? {} : { round }), code, message: messageOf(error) })
    })
  }
  port.listen((message) => {
    switch (message.kind) {
      case 'setup':
        return inTurn(() => {
          rank.plan = message.plan
          rank.slots = stepOptions(message.plan.step).optimizer.slots
          rank.replica = openReplica(message.plan)
          port.send({ kind: 'ready' })
        })
      case 'round': {
        const answers = new Answers()
        open.set(message.round, answers)
        return inTurn(async () => {
          await computeRound(rank, message, answers).catch((error: unknown) => {
            if (!answers.abandoned) throw error
          })
          open.delete(message.round)
        }, message.round)
      }
      case 'reduced':
      case 'gathered':
        return open.get(message.round)?.put(message)
      case 'abandon':
        return open.get(message.round)?.abandon()
      case 'stop':
        for (const answers of open.values()) answers.abandon()
        return inTurn(async () => {
          await rank.replica?.release()
          port.close()
        })
    }
  })
}

interface Rank {
  port: RankPort
  plan: RankPlan | undefined
  /** The optimizer's. */
  slots: readonly string[]
  replica: Replica | undefined
  /** Ends of rounds that the next one may start from. */
  states: Map<number, TrainState>
  /** At the board of ranks that share memory. */
  seat: { board: number; exchange: Exchange } | undefined
}

async function computeRound(rank: Rank, { round, from, state: given, steps, report, shard, seat }: Round, answers: Answers): Promise<void> {
  const { syncEvery = 1, outer } = rank.plan?.step.settings.parallel ?? {}
  const replica = rank.replica as Replica
  const exchange = seat === undefined ? messageExchange(round, answers, rank.port.send) : exchangeAt(rank, seat)
  const begun = startOf(rank, from, given)
  let state = begun
  const losses = new Float32Array(steps.length)
  for (let step = 0; step < steps.length; ) {
    answers.check()
    const share = steps[step] as ShareOfStep
    if (syncEvery === 1) {
      const done = await computeStep(rank, { state, share, step, shard, exchange }, answers)
      // What the round began with may be wanted again.
      if (state !== begun) giveBack(replica.spares, shard === undefined ? state : slotsOf(rank, state))
      state = done.state
      losses[step] = done.loss
      step += 1
      continue
    }
    const stretch = steps.slice(step, step + syncEvery - (state.step % syncEvery))
    const [rows, learningRates] = [stretch.map((one) => one.rows), stretch.map((one) => one.learningRate)]
    const alone = await replica.advance(state, rows, learningRates)
    losses.set(alone.losses, step)
    step += stretch.length
    // Sums are named by the last step before them.
    const last = step - 1
    const next = await meet({ start: state, state: alone.state, weight: share.weight, outer, spares: replica.spares }, (parts) =>
      sumOver(exchange, last, parts),
    )
    if (state !== begun) giveBack(replica.spares, state)
    state = next
  }
  rank.states.set(round, state)
  const reported = report ? state : shard === undefined ? undefined : slotsOf(rank, state)
  rank.port.send({ kind: 'done', round, losses, ...(reported === undefined ? {} : { state: reported }) })
}

/** Forgets what no later round can start from: rounds that were abandoned, and those before `from`. */
function startOf({ states }: Rank, from: number | undefined, given: TrainState | undefined): TrainState {
  const known = from === undefined ? undefined : states.get(from)
  states.clear()
  if (from !== undefined && known !== undefined) states.set(from, known)
  const vectors = { ...known?.vectors, ...given?.vectors }
  const step = given?.step ?? known?.step
  if (step === undefined) throw new FlyweightError('internal', `the rank was told to go on from round ${from}, which it does not have`)
  return { step, vectors }
}

/** The sums over ranks of parts of them. */
async function sumOver(exchange: Exchange, step: number, parts: readonly Part[]): Promise<Vector[]> {
  for (const [bucket, { vector, exact }] of parts.entries()) exchange.give({ step, bucket }, vector, exact)
  const sums: Vector[] = []
  for (const bucket of parts.keys()) sums.push(await exchange.take({ step, bucket }))
  return sums
}

/** Of the same board the same exchange, which counts how often it was used. */
function exchangeAt(rank: Rank, seat: Seat): Exchange {
  if (rank.seat?.board !== seat.board) rank.seat = { board: seat.board, exchange: sharedExchange(seat, (rank.replica as Replica).spares) }
  return rank.seat.exchange
}

interface StepOfRound {
  state: TrainState
  share: ShareOfStep
  step: number
  shard: Shard | undefined
  exchange: Exchange
}

async function computeStep(rank: Rank, { state, share, step, shard, exchange }: StepOfRound, answers: Answers): Promise<{ state: TrainState; loss: number }> {
  const replica = rank.replica as Replica
  const parts = divideRows(share.rows, rank.plan?.step.settings.parts ?? 1)
  const sums: Vector[] = []
  let loss = 0
  let statistics = state.vectors[STATE.statistics]
  for (const [index, part] of parts.entries()) {
    answers.check()
    const onBucket = (bucket: number, vector: Vector) => {
      const sum = (sums[bucket] ??= vector)
      if (sum !== vector) {
        addTo(sum, vector)
        replica.spares.give(vector)
      }
      if (index === parts.length - 1) exchange.give({ step, bucket }, sum)
    }
    // Each part goes on from the statistics of the one before.
    const from = statistics === undefined ? state : { step: state.step, vectors: Object.assign({}, state.vectors, { [STATE.statistics]: statistics }) }
    const result = await replica.gradients(from, { rows: part.rows, weight: part.share * share.weight }, onBucket)
    loss += part.share * result.loss
    statistics = result.statistics
  }
  const buckets = sums.length
  if (statistics !== undefined)
    exchange.give(
      { step, bucket: buckets },
      statistics.map((value) => value * share.weight),
    )
  const reduced: Vector[] = []
  for (let bucket = 0; bucket < buckets + (statistics === undefined ? 0 : 1); bucket++) reduced.push(await exchange.take({ step, bucket }))
  const next = await replica.update(state, { buckets: reduced.slice(0, buckets), statistics: reduced[buckets], learningRate: share.learningRate, shard })
  if (shard === undefined) return { state: next, loss }
  const whole = { shard, count: (state.vectors[STATE.parameters] as Vector).length }
  const parameters = await exchange.gather(step, next.vectors[STATE.parameters] as Vector, whole)
  return { state: { step: next.step, vectors: { ...next.vectors, [STATE.parameters]: parameters } }, loss }
}

function slotsOf({ slots }: Rank, { step, vectors }: TrainState): TrainState {
  return { step, vectors: Object.fromEntries(slots.map((slot) => [slot, vectors[slot] as Vector])) }
}

function giveBack(spares: SpareVectors, { vectors }: TrainState): void {
  for (const vector of Object.values(vectors)) spares.give(vector)
}
