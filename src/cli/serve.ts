// `flyweight serve`: from flags to a running gateway, and from a signal to a clean exit. What the
// gateway is made of is app.ts's business.
import { existsSync, readFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { App } from '../app.js'
import { loadConfig, type Config, type ConfigOverrides } from '../config.js'
import { messageOf } from '../errors.js'
import { banner, suggestedCurl } from './banner.js'
import { configFile } from './config-file.js'
import { relaunchTuned } from './relaunch.js'
import { openTerminal, type Terminal } from './terminal.js'

export interface ServeFlags {
  host?: string
  port?: number
  grpcPort?: number
  models?: string
  data?: string
  memory?: number
  lanes?: number
  device?: string
  redis?: string
  config?: string
  logLevel?: Config['log']['level']
  printConfig?: boolean
  banner?: boolean
}

const projectRoot = fileURLToPath(new URL('../..', import.meta.url))
/** A key press reaches the gateway twice, from the terminal and through npm; two signals this close are one. */
const SAME_SIGNAL_MS = 500

/** Runs the gateway until it is told to stop; resolves to the exit code. */
export async function serve(flags: ServeFlags): Promise<number> {
  const terminal = openTerminal()
  const withBanner = flags.banner ?? terminal.interactive
  const config = loadConfig({
    file: configFile(flags.config),
    // A person at a terminal gets the banner and warnings, not a line a request, unless asked for.
    environment: withBanner && terminal.interactive ? { LOG_LEVEL: 'warn', ...process.env } : process.env,
    flags: overridesOf(flags),
  })
  if (flags.printConfig === true) {
    terminal.print(JSON.stringify(config, null, 2))
    return 0
  }
  const relaunched = await relaunchTuned()
  if (relaunched !== undefined) return relaunched

  const { createApp } = await import('../app.js')
  const app = await createApp(config)
  surviveFaults(app)
  const stopped = stopOnSignal(app)
  const address = await app.listen()
  await announce(app, address, { terminal, withBanner })
  return stopped
}

/** Flags to configuration sections; a flag that was not given leaves no trace. */
function overridesOf(flags: ServeFlags): ConfigOverrides {
  return {
    server: given({ host: flags.host, port: flags.port, grpcPort: flags.grpcPort }),
    models: given({ directory: flags.models }),
    data: given({ directory: flags.data }),
    serving: given({ memoryBudgetBytes: flags.memory, lanes: flags.lanes, device: flags.device }),
    training: given({ redis: flags.redis }),
    log: given({ level: flags.logLevel }),
  }
}

function given<T extends object>(values: T): { [Key in keyof T]?: Exclude<T[Key], undefined> } {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as { [Key in keyof T]?: Exclude<T[Key], undefined> }
}

async function announce(app: App, address: string, { terminal, withBanner }: { terminal: Terminal; withBanner: boolean }): Promise<void> {
  if (withBanner) terminal.print(`listening on ${address}, loading the models…`)
  await app.ready
  const models = app.repository.list()
  const exampleFile = join(projectRoot, 'examples', 'digit.json')
  const served = models.some(({ name, state }) => name === 'digits' && state === 'READY') && existsSync(exampleFile)
  const exampleBody = served ? relative(process.cwd(), exampleFile) : undefined
  app.server.log.info({ address, grpcPort: app.grpcPort(), docs: `${address}/docs`, try: suggestedCurl(address, exampleBody) }, 'ready')
  if (!withBanner) return
  for (const line of banner({ version: version(), address, seconds: process.uptime(), models, exampleBody }, terminal.paint)) terminal.print(line)
}

/** The version in package.json. */
export function version(): string {
  return (JSON.parse(readFileSync(join(projectRoot, 'package.json'), 'utf8')) as { version: string }).version
}

/** Resolves to the exit code once the first SIGTERM or SIGINT has been answered by a drain; a second one exits at once. */
function stopOnSignal(app: App): Promise<number> {
  return new Promise((resolve) => {
    let stoppingSince: number | undefined
    const stop = (signal: NodeJS.Signals, exitNow: number) => {
      if (stoppingSince !== undefined) {
        if (performance.now() - stoppingSince >= SAME_SIGNAL_MS) process.exit(exitNow)
        return
      }
      stoppingSince = performance.now()
      app.server.log.info({ signal }, 'stopping: draining what was accepted; a second signal exits at once')
      // The grace period lets a load balancer notice /readyz; a person who presses Ctrl-C has none.
      app.close({ graceMs: signal === 'SIGINT' ? 0 : undefined }).then(
        () => resolve(0),
        (error: unknown) => {
          app.server.log.error({ error: messageOf(error) }, 'could not stop cleanly')
          resolve(1)
        },
      )
    }
    process.on('SIGTERM', (signal) => stop(signal, 143))
    process.on('SIGINT', (signal) => stop(signal, 130))
    // Whoever started this process for the user (relaunch.ts, scripts/start.mjs) was killed.
    process.once('disconnect', () => stop('SIGTERM', 143))
  })
}

/**
 * A rejected promise that nobody awaited belongs to one request or job: it is logged and the gateway
 * goes on. An exception out of nowhere may have left shared state half changed: it is logged, what was
 * accepted is drained, and the process ends with code 1 for its supervisor to restart.
 */
function surviveFaults(app: App): void {
  process.on('unhandledRejection', (reason) => app.server.log.error({ err: reason }, 'a rejected promise was not handled'))
  process.on('uncaughtException', (error: NodeJS.ErrnoException) => {
    // The reader of our output, or a client, went away: nothing of ours is broken.
    if (error.code === 'EPIPE' || error.code === 'ECONNRESET') return
    app.server.log.fatal({ err: error }, 'an exception was not caught; stopping')
    void app.close({ graceMs: 0 }).finally(() => process.exit(1))
  })
}
