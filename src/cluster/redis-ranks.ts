// Ranks on other machines, reached through Redis: the coordinator's side. Workers come and go as they like; one whose
// signs of life stop has left. Losing Redis loses all of them: they come back, as new ranks, when it does.
import { randomUUID } from 'node:crypto'
import { messageOf } from '../errors.js'
import type { FromRank, ToRank } from '../train/parallel/messages.js'
import type { RankEvents, RankLink, Ranks } from '../train/parallel/ranks.js'
import { connect, connectPatiently, type Connection } from './connection.js'
import {
  COORDINATOR_ALIVE_MS,
  KEPT_MS,
  PROTOCOL,
  SESSIONS,
  keepBeating,
  keysOf,
  post,
  receive,
  type FromWorker,
  type Hello,
  type SessionKeys,
} from './mailbox.js'
import { travelsAsHalves } from './wire.js'

export interface RedisRanksOptions {
  url: string
  /** Workers of this group may join. */
  group: string
  /** Gradients travel as halves. */
  half: boolean
  log(line: string): void
}

const OVER = 'the training is over'

interface Session {
  name: string
  keys: SessionKeys
  connection: Connection
  workers: Map<string, Worker>
}

interface Worker extends RankLink {
  alive: string
  inbox: string
}

/**
 * Opens a group to workers; sessions begin when somebody listens.
 * @throws FlyweightError `invalid_config` where Redis cannot be reached now
 */
export async function openRedisRanks({ url, group, half, log }: RedisRanksOptions): Promise<Ranks> {
  const links = new Set<RankLink>()
  const released = new AbortController()
  let events: RankEvents | undefined
  let session: Session | undefined
  let first: Connection | undefined = await connect(url)
  let ended: Promise<void> = Promise.resolve()

  const drop = ({ workers, connection }: Session, id: string, reason: string) => {
    const worker = workers.get(id)
    if (worker === undefined) return
    workers.delete(id)
    links.delete(worker)
    // A worker that is alive after all notices that it was dropped.
    connection.pulse.del(worker.alive, worker.inbox).catch(() => {})
    log(`${worker.id} left: ${reason}`)
    events?.leave(worker, reason)
  }
  const greet = (of: Session, id: string, { name, protocol }: Hello) => {
    if (protocol !== PROTOCOL) {
      const reason = `it speaks version ${protocol} of the protocol, expected ${PROTOCOL}`
      log(`${name} was sent away: ${reason}`)
      return void post(of.connection, of.keys.worker(id).inbox, of.name, { kind: 'bye', reason })
    }
    const worker: Worker = {
      id: name,
      ...of.keys.worker(id),
      send: (message: ToRank) => {
        if (of.workers.get(id) === worker) void post(of.connection, worker.inbox, of.name, message, { half: half && travelsAsHalves(message) })
      },
    }
    of.workers.set(id, worker)
    void post(of.connection, worker.inbox, of.name, { kind: 'welcome', half })
    links.add(worker)
    advertise(of).catch(() => {})
    log(`${name} joined`)
    events?.join(worker)
  }
  const take = (of: Session, id: string, message: FromWorker) => {
    if (message.kind === 'hello') return greet(of, id, message)
    if (message.kind === 'bye') return drop(of, id, message.reason)
    const worker = of.workers.get(id)
    if (worker !== undefined) events?.message(worker, message satisfies FromRank)
  }
  const beat = async (of: Session) => {
    const { pulse } = of.connection
    const ids = [...of.workers.keys()]
    await advertise(of)
    await pulse.sadd(SESSIONS, of.name)
    await pulse.pexpire(SESSIONS, KEPT_MS)
    if (ids.length === 0) return
    const signs = await pulse.mget(ids.map((id) => of.keys.worker(id).alive))
    for (const [index, id] of ids.entries()) if (signs[index] === null) drop(of, id, 'it gives no sign of life')
  }
  /** Holds a session until its connection is lost. */
  const hold = async (connection: Connection) => {
    const name = `${group}:${randomUUID()}`
    const current: Session = { name, keys: keysOf(name), connection, workers: new Map() }
    session = current
    const received = receive(connection, current.keys.inbox, {
      take: (id, message) => take(current, id, message as FromWorker),
      damaged: (id, reason) => drop(current, id, reason),
    })
    await keepBeating(connection, () => beat(current))
    const reason = (await connection.closed) ?? OVER
    await received
    for (const id of [...current.workers.keys()]) drop(current, id, reason)
  }
  const serve = async () => {
    while (!released.signal.aborted) {
      const waiting = (reason: string) => log(reason)
      const connection = first ?? (await connectPatiently(url, { signal: released.signal, waiting }))
      first = undefined
      await hold(connection)
    }
  }
  return {
    links,
    listen: (given) => {
      events = given
      ended = serve().catch((error: unknown) => {
        if (!released.signal.aborted) log(messageOf(error))
      })
    },
    release: async () => {
      events = undefined
      released.abort()
      if (session !== undefined) await dismiss(session)
      first?.close()
      await ended
    },
  }
}

/** A sign of life that says how many workers there are, as those to come go where there are few. */
async function advertise({ keys, connection, workers }: Session): Promise<void> {
  await connection.pulse.set(keys.alive, workers.size, 'PX', COORDINATOR_ALIVE_MS)
}

/** Sends the workers away and leaves nothing in Redis. */
async function dismiss({ name, keys, connection, workers }: Session): Promise<void> {
  const { pulse } = connection
  try {
    await pulse.srem(SESSIONS, name)
    for (const { inbox } of workers.values()) await post(connection, inbox, name, { kind: 'bye', reason: OVER })
    await pulse.del(keys.alive, keys.inbox)
  } catch {
    // Without Redis there is nothing to clear: keys expire by themselves.
  }
  connection.close()
}
