// The logger: pino, JSON lines, no payloads. What is logged is the callers' choice; this file sees to
// it that secrets in headers do not pass.
import { pino, type DestinationStream, type Logger } from 'pino'

export interface LoggingOptions {
  level: 'fatal' | 'error' | 'warn' | 'info' | 'debug' | 'trace' | 'silent'
  /** Default: standard output. */
  destination?: DestinationStream
}

const SECRET_HEADERS = ['authorization', 'cookie', 'set-cookie', 'x-api-key']

export function createLogger({ level, destination }: LoggingOptions): Logger {
  const options = {
    level,
    base: {},
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
    redact: { paths: SECRET_HEADERS.flatMap((name) => [`headers["${name}"]`, `*.headers["${name}"]`]), censor: '[hidden]' },
  }
  return destination === undefined ? pino(options) : pino(options, destination)
}
