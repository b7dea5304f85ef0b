// Processes of tests: workers as the command line starts them, and machines as network namespaces.
import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { WorkerEvent } from '#flyweight/cluster/worker.js'

const main = fileURLToPath(new URL('../../dist/main.js', import.meta.url))

export interface WorkerProcess {
  process: ChildProcess
  /** What it has told so far. */
  events: WorkerEvent[]
  /** Resolves to the exit code, null after a signal. */
  ended: Promise<number | null>
  errors(): string
}

/** `flyweight worker`; `within` is what the command is run by. */
export function startWorker(args: readonly string[], within: readonly string[] = []): WorkerProcess {
  const [command, ...rest] = [...within, process.execPath, main, 'worker', ...args, '--json']
  const child = spawn(command, rest, { stdio: ['ignore', 'pipe', 'pipe'] })
  const events: WorkerEvent[] = []
  createInterface({ input: child.stdout }).on('line', (line) => events.push(JSON.parse(line) as WorkerEvent))
  let errors = ''
  child.stderr.on('data', (chunk: Buffer) => (errors += chunk.toString()))
  return { process: child, events, ended: once(child, 'close').then(([code]) => code as number | null), errors: () => errors }
}

/** Rounds that a worker has computed for the training that it left last. */
export function roundsOf({ events }: WorkerProcess): number | undefined {
  const last = events.findLast(({ event }) => event === 'left')
  return last?.event === 'left' ? last.rounds : undefined
}

export interface Machines {
  /** What they are, for people. */
  description: string
  /** What runs a command on the first and on the second. */
  within: readonly [readonly string[], readonly string[]]
  /** Address of the first. */
  host: string
  remove(): void
}

/** Two network namespaces joined by a cable, each with a loopback of its own; this machine twice where that is not allowed. */
export function twoMachines(): Machines {
  const ip = (...args: string[]) => spawnSync('ip', args).status === 0
  const names = ['a', 'b'].map((end) => `fly${process.pid}${end}`) as [string, string]
  const [a, b] = names
  const remove = () => names.forEach((name) => ip('netns', 'del', name))
  const addresses = ['10.231.77.1', '10.231.77.2']
  const made =
    ip('netns', 'add', a) &&
    ip('netns', 'add', b) &&
    ip('link', 'add', 'eth0', 'netns', a, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', b) &&
    names.every(
      (name, index) =>
        ip('-n', name, 'address', 'add', `${addresses[index]}/24`, 'dev', 'eth0') &&
        ip('-n', name, 'link', 'set', 'eth0', 'up') &&
        ip('-n', name, 'link', 'set', 'lo', 'up'),
    )
  if (made) {
    const exec = (name: string) => ['ip', 'netns', 'exec', name]
    return { description: 'two network namespaces', within: [exec(a), exec(b)], host: addresses[0] as string, remove }
  }
  remove()
  return { description: 'two processes: network namespaces are not allowed here', within: [[], []], host: '127.0.0.1', remove: () => {} }
}
