// `flyweight worker`: computes for trainings on other machines until it is told to stop. How it finds them is
// cluster/worker.ts's business.
import { hostname } from 'node:os'
import { runWorker, type WorkerEvent } from '../cluster/worker.js'
import { FlyweightError } from '../errors.js'
import { redisUrl } from './config-file.js'
import type { Terminal } from './terminal.js'

export interface WorkerFlags {
  redis?: string
  group?: string
  threads?: number
  config?: string
}

/**
 * Works until SIGTERM or SIGINT; a second one ends the process at once.
 * @throws FlyweightError `invalid_config` where no Redis is given, or it refuses the worker for good
 */
export async function worker(terminal: Terminal, flags: WorkerFlags): Promise<void> {
  const url = redisUrl(flags)
  if (url === undefined) throw new FlyweightError('invalid_config', '--redis is missing, expected redis://host:port (or training.redis in the configuration)')
  const stopped = new AbortController()
  for (const [signal, code] of [
    ['SIGTERM', 143],
    ['SIGINT', 130],
  ] as const) {
    process.on(signal, () => {
      if (stopped.signal.aborted) process.exit(code)
      stopped.abort()
    })
  }
  const name = `${hostname()}:${process.pid}`
  if (terminal.interactive) terminal.print(`${name} looks for trainings${flags.group === undefined ? '' : ` of group ${flags.group}`}; Ctrl-C stops it`)
  await runWorker({
    url,
    ...(flags.group === undefined ? {} : { group: flags.group }),
    threads: flags.threads ?? 1,
    name,
    signal: stopped.signal,
    onEvent: (event) => (terminal.interactive ? terminal.print(lineOf(event)) : terminal.json({ time: new Date().toISOString(), worker: name, ...event })),
  })
}

function lineOf(event: WorkerEvent): string {
  switch (event.event) {
    case 'connected':
      return 'connected to Redis'
    case 'disconnected':
      return `${event.reason}; trying again`
    case 'joined':
      return `joined a training of group ${event.group}`
    case 'ready':
      return 'ready to compute'
    case 'left':
      return `left the training of group ${event.group} after ${event.rounds} rounds: ${event.reason}`
  }
}
