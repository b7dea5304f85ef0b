// A coordinator and its workers over a real Redis: who joins, who leaves and why, and what is left behind. The ranks here
// compute nothing; training.test.ts trains.
import { randomUUID } from 'node:crypto'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { connect, type Connection } from '#flyweight/cluster/connection.js'
import { keysOf, PROTOCOL, post, receive, SESSIONS, type FromWorker, type ToWorker } from '#flyweight/cluster/mailbox.js'
import { openRedisRanks } from '#flyweight/cluster/redis-ranks.js'
import { runWorker, type WorkerEvent } from '#flyweight/cluster/worker.js'
import type { FromRank } from '#flyweight/train/parallel/messages.js'
import type { RankLink, Ranks } from '#flyweight/train/parallel/ranks.js'
import { keysIn, missing, startRedis, until, type RedisServer } from './redis-server.js'

let redis: RedisServer
let cleanups: (() => unknown)[]
beforeEach(async () => {
  cleanups = []
  if (missing === undefined) redis = await startRedis()
})
afterEach(async () => {
  for (const cleanup of cleanups.reverse()) await cleanup()
  await redis?.stop()
})

interface Coordinator {
  ranks: Ranks
  joined: string[]
  left: string[]
  messages: FromRank[]
  lines: string[]
}

async function coordinator(group = 'g', half = false): Promise<Coordinator> {
  const lines: string[] = []
  const ranks = await openRedisRanks({ url: redis.url, group, half, log: (line) => void lines.push(line) })
  const [joined, left, messages]: [string[], string[], FromRank[]] = [[], [], []]
  ranks.listen({
    join: ({ id }) => joined.push(id),
    message: (_, message) => messages.push(message),
    leave: ({ id }, reason) => left.push(`${id}: ${reason}`),
  })
  cleanups.push(() => ranks.release())
  return { ranks, joined, left, messages, lines }
}

interface RunningWorker {
  events: WorkerEvent[]
  /** Names of events, with groups. */
  told(): string[]
  stop(): Promise<void>
}

function worker(name: string, group?: string): RunningWorker {
  const [events, stopped]: [WorkerEvent[], AbortController] = [[], new AbortController()]
  const ended = runWorker({
    url: redis.url,
    ...(group === undefined ? {} : { group }),
    threads: 1,
    name,
    signal: stopped.signal,
    onEvent: (event) => events.push(event),
  })
  const stop = () => {
    stopped.abort()
    return ended
  }
  cleanups.push(stop)
  return { events, told: () => events.map((event) => ('group' in event ? `${event.event} ${event.group}` : event.event)), stop }
}

interface RawWorker {
  connection: Connection
  received: ToWorker[]
  send(message: FromWorker): Promise<void>
}

/** A worker that speaks the protocol by hand, and gives no sign of life but the first. */
async function rawWorker(name: string, { protocol = PROTOCOL, deaf = false } = {}): Promise<RawWorker> {
  const connection = await connect(redis.url)
  cleanups.push(() => connection.close())
  await until(async () => (await connection.pulse.scard(SESSIONS)) > 0)
  const [session = ''] = await connection.pulse.smembers(SESSIONS)
  const [keys, id] = [keysOf(session), randomUUID()]
  const received: ToWorker[] = []
  if (!deaf) void receive(connection, keys.worker(id).inbox, { take: (_, message) => received.push(message as ToWorker), damaged: () => {} })
  await connection.pulse.set(keys.worker(id).alive, name, 'PX', 2500)
  const send = (message: FromWorker) => post(connection, keys.inbox, id, message)
  await send({ kind: 'hello', name, protocol })
  return { connection, received, send }
}

const first = ({ ranks }: Coordinator) => [...ranks.links][0] as RankLink

describe.skipIf(missing !== undefined)('ranks behind Redis', () => {
  it('join, are sent away when the training is over, serve the next one, and leave nothing behind', async () => {
    const one = await coordinator('first')
    const served = worker('w')
    await until(() => served.told().includes('joined first'))
    expect(one.joined).toEqual(['w'])
    expect([...one.ranks.links].map(({ id }) => id)).toEqual(['w'])
    await one.ranks.release()
    await until(() => served.told().includes('left first'))
    expect(served.events.at(-1)).toEqual({ event: 'left', group: 'first', rounds: 0, reason: 'the training is over' })
    const two = await coordinator('second')
    await until(() => two.joined.length === 1)
    await served.stop()
    expect(served.told()).toEqual(['connected', 'joined first', 'left first', 'joined second', 'left second'])
    await until(() => two.left.length === 1)
    expect(two.left).toEqual(['w: the worker was stopped'])
    await two.ranks.release()
    expect(await keysIn(redis.url)).toEqual([])
  })

  it('join trainings of their group only, and spread over those that they may join', async () => {
    const [a, b] = [await coordinator('a'), await coordinator('b')]
    const sessions = await connect(redis.url)
    cleanups.push(() => sessions.close())
    await until(async () => (await sessions.pulse.scard(SESSIONS)) === 2)
    const workersOf = async (group: string) => {
      const session = (await sessions.pulse.smembers(SESSIONS)).find((one) => one.startsWith(`${group}:`)) ?? ''
      return sessions.pulse.get(keysOf(session).alive)
    }
    worker('only a', 'a')
    await until(async () => (await workersOf('a')) === '1')
    worker('any')
    await until(() => b.joined.length === 1)
    worker('a, too', 'a')
    await until(() => a.joined.length === 2)
    expect([a.joined, b.joined]).toEqual([['only a', 'a, too'], ['any']])
  })

  it('get messages in order, vectors of any size among them, and answer', async () => {
    const { ranks, messages } = await coordinator()
    const raw = await rawWorker('raw')
    await until(() => ranks.links.size === 1)
    // More than one part.
    const vector = Float32Array.from({ length: 1.5 * 2 ** 20 }, (_, at) => at % 1000)
    const [link] = ranks.links
    link?.send({ kind: 'reduced', round: 1, step: 0, bucket: 0, vector })
    link?.send({ kind: 'abandon', round: 1 })
    await until(() => raw.received.length === 3)
    expect(raw.received.map(({ kind }) => kind)).toEqual(['welcome', 'reduced', 'abandon'])
    expect(Buffer.from((raw.received[1] as { vector: Float32Array }).vector.buffer).equals(Buffer.from(vector.buffer))).toBe(true)
    await Promise.all([raw.send({ kind: 'bucket', round: 1, step: 0, bucket: 0, vector }), raw.send({ kind: 'ready' })])
    await until(() => messages.length === 2)
    expect(messages.map(({ kind }) => kind)).toEqual(['bucket', 'ready'])
  })

  it('get gradients as halves where that is asked for, and nothing else', async () => {
    const group = await coordinator('g', true)
    const raw = await rawWorker('raw')
    await until(() => group.ranks.links.size === 1)
    const vector = Float32Array.of(1, 1 + 2 ** -12, 1e-9)
    first(group).send({ kind: 'reduced', round: 1, step: 0, bucket: 0, vector })
    first(group).send({ kind: 'round', round: 2, from: undefined, state: { step: 0, vectors: { parameters: vector } }, steps: [], report: true })
    await until(() => raw.received.length === 3)
    expect(raw.received[0]).toEqual({ kind: 'welcome', half: true })
    expect((raw.received[1] as { vector: Float32Array }).vector).toEqual(Float32Array.of(1, 1, 275 * 2 ** -38))
    expect(raw.received[2]).toMatchObject({ state: { vectors: { parameters: vector } } })
  })

  it('leave when their signs of life stop', async () => {
    const { ranks, left } = await coordinator()
    const raw = await rawWorker('raw')
    await until(() => ranks.links.size === 1)
    raw.connection.close()
    await until(() => left.length === 1)
    expect(left).toEqual(['raw: it gives no sign of life'])
    expect(ranks.links.size).toBe(0)
  })

  it('leave when Redis is lost, and come back with it', async () => {
    const { ranks, joined, left } = await coordinator()
    const served = worker('w')
    await until(() => ranks.links.size === 1)
    const port = Number(new URL(redis.url).port)
    await redis.stop()
    await until(() => left.length === 1)
    expect(left[0]).toMatch(/^w: lost Redis at redis:\/\/127\.0\.0\.1:\d+: (it closed the connection|read ECONNRESET)$/)
    await until(() => served.told().includes('disconnected'))
    redis = await startRedis({ port })
    await until(() => joined.length === 2)
    expect(ranks.links.size).toBe(1)
  })

  it('look for another training when the coordinator gives no sign of life', async () => {
    const connection = await connect(redis.url)
    cleanups.push(() => connection.close())
    await connection.pulse.set(keysOf('gone:1').alive, 0, 'PX', 1000)
    await connection.pulse.sadd(SESSIONS, 'gone:1')
    const served = worker('w')
    await until(() => served.told().includes('left gone'))
    expect(served.events.at(-1)).toMatchObject({ reason: 'the coordinator gives no sign of life' })
    await until(async () => (await connection.pulse.scard(SESSIONS)) === 0)
    const { joined } = await coordinator()
    await until(() => joined.length === 1)
  })

  it('that speak another version are sent away', async () => {
    const { lines, joined } = await coordinator()
    const raw = await rawWorker('old', { protocol: 0 })
    await until(() => raw.received.length === 1)
    expect(raw.received).toEqual([{ kind: 'bye', reason: `it speaks version 0 of the protocol, expected ${PROTOCOL}` }])
    expect([joined, lines]).toEqual([[], [`old was sent away: it speaks version 0 of the protocol, expected ${PROTOCOL}`]])
  })

  it('use only keys that expire', async () => {
    const { ranks } = await coordinator()
    worker('w')
    const raw = await rawWorker('raw', { deaf: true })
    await until(() => ranks.links.size === 2)
    for (const link of ranks.links) link.send({ kind: 'abandon', round: 1 })
    await until(async () => (await raw.connection.pulse.keys('*')).length >= 5)
    const { pulse } = raw.connection
    const lives = await Promise.all((await pulse.keys('*')).map((key) => pulse.pttl(key)))
    expect(lives.filter((life) => life === -1)).toEqual([])
  })
})

describe('without Redis', () => {
  it('a coordinator says so at once', async () => {
    await expect(openRedisRanks({ url: 'redis://:secret@127.0.0.1:1', group: 'g', half: false, log: () => {} })).rejects.toThrow(
      'cannot use Redis at redis://:…@127.0.0.1:1: connect ECONNREFUSED',
    )
    await expect(openRedisRanks({ url: 'http://127.0.0.1', group: 'g', half: false, log: () => {} })).rejects.toThrow('expected redis://host:port')
  })

  it('a worker tries again, until it is stopped', async () => {
    const [events, stopped]: [WorkerEvent[], AbortController] = [[], new AbortController()]
    const ended = runWorker({ url: 'redis://127.0.0.1:1', threads: 1, name: 'w', signal: stopped.signal, onEvent: (event) => events.push(event) })
    await until(() => events.length > 0)
    stopped.abort()
    await ended
    expect(events).toEqual([{ event: 'disconnected', reason: expect.stringContaining('ECONNREFUSED') as string }])
  })
})
