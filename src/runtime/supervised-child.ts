// A forked process with limits: time, resident memory, priority. Everything that may crash, hang or
// eat the machine (a first load, a build) runs in one, and its end is always told with the reason.
import { fork, type ChildProcess } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { setPriority } from 'node:os'
import { mallocEnvironment } from './malloc.js'

export interface ChildOptions {
  /** The built .js file to run. */
  entry: URL
  /** The first message it gets. */
  message: unknown
  /** Resident bytes above which it is killed (Linux), and from which its JavaScript heap limit is derived. */
  memoryBytes: number
  /** Milliseconds after which it is killed. */
  timeoutMs: number
  /** 0 (default) to 19: higher yields the cores to everybody else. */
  niceness?: number
  onMessage(message: unknown): void
}

export interface ChildEnd {
  reason: 'exit' | 'crash' | 'timeout' | 'memory' | 'stopped'
  /** In words, to finish a sentence that begins with the process: e.g. `crashed (signal SIGSEGV)`. */
  description: string
  /** Last 2 KiB of what it wrote to stderr. */
  stderr: string
}

export interface SupervisedChild {
  readonly pid: number
  readonly ended: Promise<ChildEnd>
  /** SIGTERM, then SIGKILL after `graceMs`. Resolves when it is gone. */
  stop(graceMs?: number): Promise<ChildEnd>
}

const WATCH_INTERVAL_MS = 25
const STDERR_BYTES = 2048

/** Starts the process; messages keep their types both ways (structured clone). Never rejects: failures are in `ended`. */
export function startChild(options: ChildOptions): SupervisedChild {
  const { entry, message, memoryBytes, timeoutMs, niceness = 0, onMessage } = options
  const heapMiB = Math.max(64, Math.min(4096, Math.floor(memoryBytes / 2 ** 20 / 2)))
  const child = fork(entry, [], {
    serialization: 'advanced',
    execArgv: [`--max-old-space-size=${heapMiB}`],
    env: { ...process.env, ...mallocEnvironment, NODE_OPTIONS: '' },
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  })
  let cause: 'timeout' | 'memory' | 'stopped' | undefined
  const kill = (why: 'timeout' | 'memory') => {
    cause ??= why
    child.kill('SIGKILL')
  }
  const timer = setTimeout(() => kill('timeout'), timeoutMs)
  const watchdog = setInterval(() => {
    if (child.pid !== undefined && residentBytesOf(child.pid) > memoryBytes) kill('memory')
  }, WATCH_INTERVAL_MS)
  let stderr = ''
  let heapFull = false
  child.stderr?.on('data', (chunk: Buffer) => {
    stderr += chunk.toString()
    // V8 says so first, then aborts with a long trace.
    heapFull ||= stderr.includes('heap out of memory')
    stderr = stderr.slice(-STDERR_BYTES)
  })
  child.on('message', onMessage)
  const ended = new Promise<ChildEnd>((resolve) => {
    const end = (reason: ChildEnd['reason'], description: string) => {
      clearTimeout(timer)
      clearInterval(watchdog)
      resolve({ reason, description, stderr: stderr.trim() })
    }
    child.on('error', (error) => {
      if (child.pid === undefined) end('crash', `could not be started (${error.message})`)
    })
    // `close` comes after the last message and the last of stderr; `exit` may come before them.
    child.on('close', (code, signal) => {
      if (cause === 'timeout') end('timeout', `took longer than ${timeoutMs / 1000} s and was killed`)
      else if (cause === 'memory') end('memory', `needed more than ${Math.round(memoryBytes / 2 ** 20)} MiB of memory and was killed`)
      else if (cause === 'stopped') end('stopped', 'was stopped')
      else if (heapFull) end('crash', `ran out of JavaScript memory (limit ${heapMiB} MiB)`)
      else if (signal !== null) end('crash', `crashed (signal ${signal})`)
      else if (code !== 0) end('crash', `crashed (exit code ${code})`)
      else end('exit', 'ended')
    })
  })
  if (child.pid !== undefined) start(child, message, niceness)
  return {
    pid: child.pid ?? -1,
    ended,
    stop: async (graceMs = 2000) => {
      cause ??= 'stopped'
      child.kill('SIGTERM')
      const force = setTimeout(() => child.kill('SIGKILL'), graceMs)
      const end = await ended
      clearTimeout(force)
      return end
    },
  }
}

function start(child: ChildProcess, message: unknown, niceness: number): void {
  try {
    if (niceness > 0) setPriority(child.pid ?? 0, niceness)
  } catch {
    // Not allowed, or already gone: it runs at normal priority, or its end says why.
  }
  // An error here means that it died at once; `close` tells how.
  child.send(message as object, () => {})
}

/** Resident set of a process from /proc; 0 where that cannot be read. */
function residentBytesOf(pid: number): number {
  try {
    return Number(readFileSync(`/proc/${pid}/statm`, 'utf8').split(' ')[1]) * 4096
  } catch {
    return 0
  }
}
