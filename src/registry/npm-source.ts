// Finds a file inside an installed npm package, for `npm:<package>/<path>` in a model.yaml. Looks through
// node_modules folders upward, as Node does, but needs no `exports` entry; never leaves the package.
import { existsSync } from 'node:fs'
import { realpath } from 'node:fs/promises'
import { dirname, isAbsolute, join, relative, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { FlyweightError } from '../errors.js'

const PATTERN = /^npm:((?:@[a-z0-9~-][a-z0-9._~-]*\/)?[a-z0-9~-][a-z0-9._~-]*)\/(.+)$/
const here = dirname(fileURLToPath(import.meta.url))

export function isNpmSource(text: string): boolean {
  return text.startsWith('npm:')
}

/**
 * Path, with links resolved, of a file in a package that is installed above `from` or above Flyweight itself.
 * @throws FlyweightError `invalid_config` when the text, the package or the file is not as it should be; `pointer` names the field.
 */
export async function resolveNpmSource(text: string, { from, pointer }: { from: string; pointer: string }): Promise<string> {
  const fault = (detail: string) => new FlyweightError('invalid_config', `${pointer} ${detail}`, { errors: [{ pointer, detail }] })
  const [, name, path] = PATTERN.exec(text) ?? []
  if (name === undefined || path === undefined) throw fault(`is ${JSON.stringify(text)}, expected npm:<package>/<path>`)
  const folder = packageFolder(name, from) ?? packageFolder(name, here)
  if (folder === undefined) throw fault(`names the package ${name}, which is not installed`)
  const file = await confinedPath(folder, path)
  if (file === undefined) throw fault(`names ${path}, which is no file inside the package ${name}`)
  return file
}

/** `path` below `folder` with links resolved; undefined when it is not there or lies outside. */
export async function confinedPath(folder: string, path: string): Promise<string | undefined> {
  if (isAbsolute(path)) return undefined
  try {
    const root = await realpath(folder)
    const file = await realpath(join(root, path))
    const inside = relative(root, file)
    return inside.split(/[\\/]/)[0] === '..' || isAbsolute(inside) ? undefined : file
  } catch {
    return undefined
  }
}

function packageFolder(name: string, from: string): string | undefined {
  for (let directory = resolve(from); ; directory = dirname(directory)) {
    const candidate = join(directory, 'node_modules', name)
    if (existsSync(candidate)) return candidate
    if (directory === dirname(directory)) return undefined
  }
}
