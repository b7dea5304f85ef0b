// What a coordinator and its workers do with Redis: lists as inboxes, keys that expire as signs of life. Every key expires,
// so that whatever is killed leaves nothing for long.
//
// A session is a coordinator's stay in a group for as long as its connection holds. Workers find sessions in one set.
import { setTimeout as sleep } from 'node:timers/promises'
import { messageOf } from '../errors.js'
import type { FromRank, ToRank } from '../train/parallel/messages.js'
import type { Connection } from './connection.js'
import { decodeFrame, encodeFrame, type FrameOptions } from './frames.js'
import { cutFrame, partJoiner } from './parts.js'

export type Farewell = { kind: 'bye'; reason: string }
/** A worker's first message; `name` is for people. */
export type Hello = { kind: 'hello'; name: string; protocol: number }
/** The answer; `half`: sums travel as halves. */
export type Welcome = { kind: 'welcome'; half: boolean }
export type ToWorker = ToRank | Welcome | Farewell
export type FromWorker = FromRank | Hello | Farewell

/** Counts up when messages change so that one side would not understand the other. */
export const PROTOCOL = 2
export const BEAT_MS = 500
/** A worker that gives no sign of life for so long is gone. */
export const WORKER_ALIVE_MS = 2500
/** Longer, as a coordinator's thread is busy at times: so long workers wait for one that was killed. */
export const COORDINATOR_ALIVE_MS = 10_000
/** Messages that nobody takes, and the set of sessions, stay so long. */
export const KEPT_MS = 60_000
/** Redis that does not answer for so long is lost. */
const ANSWER_MS = 10_000

const PREFIX = 'flyweight:train'
/** Set of `<group>:<session>`. */
export const SESSIONS = `${PREFIX}:sessions`

export interface SessionKeys {
  /** Present while the coordinator lives; its value is the number of its workers. */
  alive: string
  inbox: string
  /** A worker's sign of life. */
  worker(id: string): { alive: string; inbox: string }
}

/** @param session as in the set of sessions */
export function keysOf(session: string): SessionKeys {
  const base = `${PREFIX}:${session}`
  return { alive: `${base}:alive`, inbox: `${base}:inbox`, worker: (id) => ({ alive: `${base}:${id}:alive`, inbox: `${base}:${id}:inbox` }) }
}

/** Puts a message into an inbox, behind those that were put there before; a failure closes the connection. */
export async function post(connection: Connection, inbox: string, from: string, message: ToWorker | FromWorker, options: FrameOptions = {}): Promise<void> {
  const { writer } = connection
  try {
    // All at once: what is sent next comes after them.
    await Promise.all(cutFrame(from, encodeFrame(message, options)).flatMap((part) => [writer.rpush(inbox, part), writer.pexpire(inbox, KEPT_MS)]))
  } catch (error) {
    connection.close(`could not send to Redis: ${messageOf(error)}`)
  }
}

/** Calls `take` with every message that comes into an inbox until the connection is closed; `damaged` in place of one that cannot be read. */
export async function receive(
  connection: Connection,
  inbox: string,
  { take, damaged }: { take(from: string, message: unknown): void; damaged(from: string, reason: string): void },
): Promise<void> {
  const join = partJoiner()
  try {
    for (;;) {
      const popped = await connection.reader.blpopBuffer(inbox, 0)
      const whole = popped === null ? undefined : join(popped[1])
      if (whole === undefined) continue
      let message: unknown
      try {
        message = decodeFrame(whole.frame)
      } catch (error) {
        damaged(whole.from, messageOf(error))
        continue
      }
      take(whole.from, message)
    }
  } catch (error) {
    connection.close(messageOf(error))
  }
}

/** Calls `beat` every half second until the connection is closed; closes it where a beat fails or takes very long. */
export async function keepBeating(connection: Connection, beat: () => Promise<void>): Promise<void> {
  let open = true
  const closed = connection.closed.then(() => (open = false))
  while (open) {
    try {
      await answered(beat())
    } catch (error) {
      connection.close(messageOf(error))
    }
    await Promise.race([closed, sleep(BEAT_MS)])
  }
}

async function answered(beat: Promise<void>): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  const silence = new Promise<void>((_, reject) => {
    // A thread that was busy for long has the answer, and has not read it: it gets a turn first.
    timer = setTimeout(() => (timer = setTimeout(() => reject(new Error(`Redis did not answer for ${ANSWER_MS / 1000} s`)), BEAT_MS)), ANSWER_MS)
  })
  try {
    await Promise.race([beat, silence])
  } finally {
    clearTimeout(timer)
  }
}
