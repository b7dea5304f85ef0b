// A Redis of a test's own, on a free port of 127.0.0.1, that keeps nothing on disk.
import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { createServer, type AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { connect } from '#flyweight/cluster/connection.js'

/** Why tests that need Redis are skipped; undefined where they are not. */
export const missing =
  spawnSync('redis-server', ['--version']).status === 0 ? undefined : 'redis-server is not installed (Debian: apt-get install redis-server)'
if (missing !== undefined) console.warn(`skipped: ${missing}`)

export interface RedisServer {
  url: string
  process: ChildProcess
  /** Resolves when it is gone. */
  stop(): Promise<void>
}

export interface RedisServerOptions {
  port?: number
  host?: string
  /** What the command is run by, such as `ip netns exec <name>`. */
  within?: readonly string[]
  /** Further arguments. */
  args?: readonly string[]
}

/** Starts a server; resolves once it answers, unless it is within something that this process does not reach. */
export async function startRedis({ port, host = '127.0.0.1', within = [], args = [] }: RedisServerOptions = {}): Promise<RedisServer> {
  const chosen = port ?? (await freePort())
  const [command = '', ...rest] = [
    ...within,
    'redis-server',
    '--port',
    String(chosen),
    '--bind',
    host,
    '--save',
    '',
    '--appendonly',
    'no',
    '--protected-mode',
    'no',
    ...args,
  ]
  const server = spawn(command, rest, { stdio: ['ignore', 'pipe', 'inherit'], cwd: '/' })
  const exited = once(server, 'exit')
  await new Promise<void>((resolve, reject) => {
    let output = ''
    server.stdout.on('data', (chunk: Buffer) => {
      output += chunk.toString()
      if (output.includes('Ready to accept connections')) resolve()
    })
    void exited.then(() => reject(new Error(`redis-server ended: ${output}`)))
  })
  return {
    url: `redis://${host}:${chosen}`,
    process: server,
    stop: async () => {
      server.kill('SIGKILL')
      await exited
    },
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

/** Names of the keys in a server. */
export async function keysIn(url: string): Promise<string[]> {
  const connection = await connect(url)
  const keys = await connection.pulse.keys('*')
  connection.close()
  return keys.sort()
}

/** Waits until `condition` holds; the test's own limit is the limit. */
export async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await condition())) await sleep(20)
}
