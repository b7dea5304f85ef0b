// Connections to Redis: three of one client, so that a heartbeat waits neither for a read that blocks nor for a vector
// that is on its way. They are used until the first of them is lost, and never repaired: whoever needs Redis opens new ones.
import { setTimeout as sleep } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { FlyweightError, messageOf } from '../errors.js'

export interface Connection {
  /** For reads that block. */
  reader: Redis
  /** For what may be large. */
  writer: Redis
  /** For small commands that must not wait. */
  pulse: Redis
  /** Settles when a connection is lost, with the reason; or when `close` is called, with what it was given. */
  closed: Promise<string | undefined>
  /** @param reason what is wrong, if anything */
  close(reason?: string): void
}

const CONNECT_TIMEOUT_MS = 5000
const FIRST_WAIT_MS = 100
const LONGEST_WAIT_MS = 5000

/**
 * Opens connections to `url` (redis://[user:password@]host[:port][/db], or rediss:// for TLS).
 * @throws FlyweightError `invalid_config` for what is no such URL, or where Redis cannot be reached or refuses the client
 */
export async function connect(url: string): Promise<Connection> {
  const shown = shownUrl(url)
  const open = () =>
    new Redis(url, {
      lazyConnect: true,
      protocol: 2,
      retryStrategy: null,
      maxRetriesPerRequest: null,
      autoResendUnfulfilledCommands: false,
      connectTimeout: CONNECT_TIMEOUT_MS,
      disableClientInfo: true,
    })
  const clients = [open(), open(), open()] as const
  const [reader, writer, pulse] = clients
  const { promise: closed, resolve } = withResolver<string | undefined>()
  const close = (reason?: string) => {
    resolve(reason)
    for (const client of clients) client.disconnect()
  }
  let fault = 'it closed the connection'
  for (const client of clients) {
    client.on('error', (error: Error) => (fault = error.message))
    client.on('end', () => close(`lost Redis at ${shown}: ${fault}`))
  }
  try {
    await Promise.all(clients.map((client) => client.connect()))
    await pulse.ping()
    return { reader, writer, pulse, closed, close }
  } catch (error) {
    // What the library throws says less than what it heard.
    const heard = fault === 'it closed the connection' ? messageOf(error) : fault
    close()
    throw new FlyweightError('invalid_config', `cannot use Redis at ${shown}: ${heard}`, { cause: error })
  }
}

/**
 * Opens connections as soon as Redis can be reached, trying again less and less often.
 * @param waiting called with the reason before each wait
 * @throws FlyweightError `invalid_config` where trying again does not help; what `signal` was aborted with
 */
export async function connectPatiently(url: string, { signal, waiting }: { signal: AbortSignal; waiting(reason: string): void }): Promise<Connection> {
  for (let wait = FIRST_WAIT_MS; ; wait = Math.min(2 * wait, LONGEST_WAIT_MS)) {
    try {
      signal.throwIfAborted()
      return await connect(url)
    } catch (error) {
      if (signal.aborted || !isPassing(error)) throw error
      waiting(messageOf(error))
      await sleep(wait, undefined, { signal })
    }
  }
}

/** Whether a server that refused may accept later: not where the URL, the password or the rights are wrong. */
function isPassing(error: unknown): boolean {
  return !/WRONGPASS|NOAUTH|NOPERM|no password is set|expected redis:/.test(messageOf(error))
}

/** The URL without its password. */
function shownUrl(url: string): string {
  const parsed = URL.canParse(url) ? new URL(url) : undefined
  if (parsed === undefined || !/^rediss?:$/.test(parsed.protocol) || parsed.hostname === '') {
    throw new FlyweightError(
      'invalid_config',
      `got ${JSON.stringify(url.replace(/:[^:@/]*@/, ':…@'))} for Redis, expected redis://host:port or rediss://host:port`,
    )
  }
  const user = parsed.username === '' && parsed.password === '' ? '' : `${parsed.username}:…@`
  return `${parsed.protocol}//${user}${parsed.host}${parsed.pathname}`
}

/** A promise that is settled from outside. */
export function withResolver<Value>(): { promise: Promise<Value>; resolve(value: Value): void } {
  let resolve!: (value: Value) => void
  const promise = new Promise<Value>((done) => (resolve = done))
  return { promise, resolve }
}
