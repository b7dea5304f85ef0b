// Where commands look for the configuration when none is named, and what they take from it.
import { existsSync } from 'node:fs'
import { loadConfig } from '../config.js'

const DEFAULT_FILE = 'config/flyweight.yaml'

/** The file that was named, or the default one where it exists. */
export function configFile(named: string | undefined): string | undefined {
  return named ?? (existsSync(DEFAULT_FILE) ? DEFAULT_FILE : undefined)
}

/** URL of Redis: of a flag, else of the configuration; undefined where neither has one. */
export function redisUrl({ redis, config }: { redis?: string; config?: string }): string | undefined {
  if (redis !== undefined) return redis
  return loadConfig({ file: configFile(config), environment: process.env }).training.redis || undefined
}
