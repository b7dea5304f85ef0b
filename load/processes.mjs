// Starts the servers and the load generator, each in its own process on 127.0.0.1, and stops them.
import { fork, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { heapFlags, mallocEnvironment } from '../dist/runtime/malloc.js'

const here = (name) => fileURLToPath(new URL(name, import.meta.url))
const running = new Set()

function track(child) {
  running.add(child)
  child.once('exit', () => running.delete(child))
  return child
}

/** Forks one of the small servers; resolves to its address and a function that stops it. */
export async function startServer(script, args) {
  const child = track(fork(here(script), args, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] }))
  const [message] = await Promise.race([once(child, 'message'), failure(child, script)])
  return { url: message.url, stop: () => stop(child) }
}

/** Starts the built gateway with an own data directory on a free port. */
export async function startGateway({ dataDirectory, modelsDirectory }) {
  const args = ['serve', '--host', '127.0.0.1', '--port', '0', '--data', dataDirectory, '--models', modelsDirectory, '--log-level', 'warn', '--banner']
  const child = track(
    spawn(process.execPath, [...heapFlags, here('../dist/main.js'), ...args], {
      env: { ...process.env, ...mallocEnvironment },
      stdio: ['ignore', 'pipe', 'inherit'],
    }),
  )
  const ready = new Promise((resolve) => {
    createInterface({ input: child.stdout }).on('line', (line) => {
      const address = /is ready on (http\S+)/.exec(line)?.[1]
      if (address !== undefined) resolve(address)
      else if (line.startsWith('{')) console.log(`gateway: ${line}`)
    })
  })
  const url = await Promise.race([ready, failure(child, 'the gateway')])
  return { url, pid: child.pid, stop: () => stop(child, 'SIGINT') }
}

/** A load generator process: `drive(cell)` runs one cell and resolves to its figures. */
export function startDriver() {
  const child = track(fork(here('drive-process.mjs'), { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] }))
  const failed = failure(child, 'the load generator')
  // Also when it is stopped, which nobody waits for.
  failed.catch(() => {})
  return {
    drive: async (cell) => {
      child.send(cell)
      const [figures] = await Promise.race([once(child, 'message'), failed])
      return figures
    },
    stop: () => stop(child),
  }
}

/** Leaves no process behind when the harness itself fails or is interrupted. */
export function killAll() {
  for (const child of running) child.kill('SIGKILL')
}

async function failure(child, name) {
  const [code, signal] = await once(child, 'exit')
  throw new Error(`${name} ended early (${signal ?? code})`)
}

async function stop(child, signal = 'SIGTERM') {
  if (child.exitCode !== null || child.signalCode !== null) return
  const ended = once(child, 'exit')
  child.kill(signal)
  await ended
}
