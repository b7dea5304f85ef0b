// Where commands look for the configuration when none is named.
import { existsSync } from 'node:fs'

const DEFAULT_FILE = 'config/flyweight.yaml'

/** The file that was named, or the default one where it exists. */
export function configFile(named: string | undefined): string | undefined {
  return named ?? (existsSync(DEFAULT_FILE) ? DEFAULT_FILE : undefined)
}
