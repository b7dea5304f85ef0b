// Files that commands write: where compressed models go, how they are called, and plots.
import { createHash } from 'node:crypto'
import { copyFile, readdir, stat, writeFile } from 'node:fs/promises'
import { basename, dirname, extname, join } from 'node:path'
import { paretoPlot } from '../chart/pareto-plot.js'
import { FlyweightError } from '../errors.js'
import type { SearchReport } from '../measurements.js'

/** File systems allow 255 bytes a name; the model's own name and endings take some of them. */
const LONGEST_VARIANT_NAME = 120

/** `digits.int8-static.onnx` for variant `int8-static` of `digits.onnx`: in its folder, or in another. */
export function variantFile(file: string, variant: string, folder = dirname(file)): string {
  // Recipes may name nodes, and these may have slashes.
  const safe = variant.replace(/[/\\:*?"<>]/g, '-')
  const short = safe.length <= LONGEST_VARIANT_NAME ? safe : `${safe.slice(0, LONGEST_VARIANT_NAME - 9)}-${sha256(variant).slice(0, 8)}`
  return join(folder, `${basename(file, extname(file))}.${short}.onnx`)
}

/** SHA-256 in hex. */
export function sha256(content: string | Uint8Array): string {
  return createHash('sha256').update(content).digest('hex')
}

/** Very large weights lie in files beside the model, which names them: they keep their names. */
export async function copyModel(from: string, to: string): Promise<void> {
  await copyFile(from, to)
  for (const name of await readdir(dirname(from))) {
    if (name.startsWith(`${basename(from)}.`)) await copyFile(join(dirname(from), name), join(dirname(to), name))
  }
}

/**
 * Where a variant of `file` goes, by its name: into `out` where that is a folder, else to that very file; beside the
 * model without `out`. To be asked before long work, not after.
 * @throws FlyweightError `not_found` for an `out` in a folder that does not exist
 */
export async function outputOf(file: string, out: string | undefined): Promise<(variant: string) => string> {
  if (out === undefined) return (variant) => variantFile(file, variant)
  if (await isFolder(out)) return (variant) => variantFile(file, variant, out)
  await checkFolderOf(out, '--out')
  return () => out
}

/**
 * To be asked before long work, not after.
 * @throws FlyweightError `not_found` naming the flag, for a file whose folder does not exist
 */
export async function checkFolderOf(file: string, flag: string): Promise<void> {
  if (!(await isFolder(dirname(file))))
    throw new FlyweightError('not_found', `${flag}: got ${file}, expected a file in a folder that exists: ${dirname(file)} does not`)
}

async function isFolder(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined))?.isDirectory() === true
}

export async function writePlot(file: string, report: SearchReport): Promise<void> {
  await writeFile(file, paretoPlot(report))
}
