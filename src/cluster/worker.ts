// A worker: finds a training that looks for ranks, joins it, and relays messages between Redis and a thread that computes,
// so that it gives signs of life while a step is computed. Serves one training at a time, then waits for the next.
import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { messageOf } from '../errors.js'
import { threadRanks } from '../train/parallel/thread-ranks.js'
import { connectPatiently, withResolver, type Connection } from './connection.js'
import { BEAT_MS, PROTOCOL, SESSIONS, WORKER_ALIVE_MS, keepBeating, keysOf, post, receive, type ToWorker } from './mailbox.js'
import { travelsAsHalves } from './wire.js'

export type WorkerEvent =
  | { event: 'connected' }
  /** Redis cannot be reached: it is tried again. */
  | { event: 'disconnected'; reason: string }
  | { event: 'joined'; group: string }
  | { event: 'ready'; group: string }
  | { event: 'left'; group: string; rounds: number; reason: string }

export interface WorkerOptions {
  url: string
  /** Trainings of this group only; default: any. */
  group?: string
  /** Intra-op threads. */
  threads: number
  /** How the coordinator's log names it. */
  name: string
  /** Ends the worker, after it has left its training. */
  signal: AbortSignal
  onEvent(event: WorkerEvent): void
}

/** How a stay in a session ended. */
interface End {
  reason: string
  /** Whether the coordinator has to be told. */
  tell: boolean
  /** Whether to come back to this session. */
  again: boolean
}

const STOPPED = 'the worker was stopped'

/**
 * Works until it is told to stop.
 * @throws FlyweightError `invalid_config` where Redis refuses it for good
 */
export async function runWorker(options: WorkerOptions): Promise<void> {
  const { url, signal, onEvent } = options
  /** Sessions that it was sent away from, or that its thread could not serve. */
  const shunned = new Set<string>()
  let connected: boolean | undefined
  const tell = (now: boolean, reason: string) => {
    if (now !== connected) onEvent(now ? { event: 'connected' } : { event: 'disconnected', reason })
    connected = now
  }
  while (!signal.aborted) {
    const connection = await connectPatiently(url, { signal, waiting: (reason) => tell(false, reason) }).catch((error: unknown) => {
      if (!signal.aborted) throw error
    })
    if (connection === undefined) return
    tell(true, '')
    try {
      const session = await findSession(connection, options, shunned)
      if (session !== undefined) await serve(connection, session, options, shunned)
    } catch (error) {
      connection.close(messageOf(error))
    }
    connection.close()
    const fault = await connection.closed
    if (fault !== undefined) tell(false, fault)
  }
}

/** The session with the fewest workers, as soon as there is any; undefined once the worker is stopped. */
async function findSession({ pulse }: Connection, { group, signal }: WorkerOptions, shunned: ReadonlySet<string>): Promise<string | undefined> {
  while (!signal.aborted) {
    const sessions = (await pulse.smembers(SESSIONS)).filter((session) => !shunned.has(session) && (group === undefined || groupOf(session) === group))
    const workers = sessions.length === 0 ? [] : await pulse.mget(sessions.map((session) => keysOf(session).alive))
    let best: { session: string; workers: number } | undefined
    for (const [index, session] of sessions.entries()) {
      const count = workers[index]
      // Its coordinator was killed, and could not take it out.
      if (count === null || count === undefined) await pulse.srem(SESSIONS, session)
      else if (best === undefined || Number(count) < best.workers) best = { session, workers: Number(count) }
    }
    if (best !== undefined) return best.session
    await sleep(BEAT_MS, undefined, { signal }).catch(() => {})
  }
  return undefined
}

/** Takes part in a session until one side ends it. The connection is closed afterwards. */
async function serve(connection: Connection, session: string, { threads, name, signal, onEvent }: WorkerOptions, shunned: Set<string>): Promise<void> {
  const group = groupOf(session)
  const keys = keysOf(session)
  const id = randomUUID()
  const own = keys.worker(id)
  const rank = threadRanks(1)
  const [thread] = rank.links
  const { promise: ended, resolve: end } = withResolver<End>()
  let [half, rounds] = [false, 0]
  const stop = () => end({ reason: STOPPED, tell: true, again: false })
  signal.addEventListener('abort', stop)
  void connection.closed.then((reason = STOPPED) => end({ reason, tell: false, again: true }))
  rank.listen({
    join: () => {},
    message: (_, message) => {
      if (message.kind === 'ready') onEvent({ event: 'ready', group })
      if (message.kind === 'done') rounds += 1
      void post(connection, keys.inbox, id, message, { half: half && travelsAsHalves(message) })
    },
    leave: (_, reason) => end({ reason, tell: true, again: false }),
  })
  const take = (message: ToWorker) => {
    switch (message.kind) {
      case 'bye':
        return end({ reason: message.reason, tell: false, again: false })
      case 'welcome':
        half = message.half
        return onEvent({ event: 'joined', group })
      case 'setup':
        return thread?.send({ ...message, plan: { ...message.plan, threads } })
      default:
        return thread?.send(message)
    }
  }
  await connection.pulse.set(own.alive, name, 'PX', WORKER_ALIVE_MS)
  await post(connection, keys.inbox, id, { kind: 'hello', name, protocol: PROTOCOL })
  const received = receive(connection, own.inbox, {
    take: (_, message) => take(message as ToWorker),
    damaged: (_, reason) => end({ reason, tell: true, again: false }),
  })
  const beating = keepBeating(connection, async () => {
    const kept = await connection.pulse.set(own.alive, name, 'PX', WORKER_ALIVE_MS, 'XX')
    if (kept === null) end({ reason: 'the coordinator took it for lost', tell: false, again: true })
    if ((await connection.pulse.exists(keys.alive)) === 0) end({ reason: 'the coordinator gives no sign of life', tell: false, again: true })
  })
  const { reason, tell, again } = await ended
  signal.removeEventListener('abort', stop)
  if (!again) shunned.add(session)
  if (tell) await post(connection, keys.inbox, id, { kind: 'bye', reason })
  await connection.pulse.del(own.alive, own.inbox).catch(() => {})
  connection.close()
  onEvent({ event: 'left', group, rounds, reason })
  await Promise.all([rank.release(), received, beating])
}

/** A session's name begins with that of its group. */
function groupOf(session: string): string {
  return session.slice(0, session.lastIndexOf(':'))
}
