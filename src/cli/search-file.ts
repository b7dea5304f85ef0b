// `flyweight compress file.onnx --recipe auto`: searches for variants of a file without a gateway, and writes those
// of the front. Interrupted, it keeps what it has found by then.
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { searchVariants } from '../compress/search/search.js'
import { FlyweightError } from '../errors.js'
import { openFile } from './file-subject.js'
import { checkFolderOf, copyModel, variantFile, writePlot } from './output-file.js'
import { bestSoFar, searchLines, type SearchFlags } from './search-report.js'
import type { Terminal } from './terminal.js'

export interface SearchFileFlags extends SearchFlags {
  /** Folder for the variants; default the model's. */
  out?: string
  samples?: string
  minFidelity?: number
}

/**
 * Resolves to the exit code: 0 when a variant was written, 1 when nothing beats the source model.
 * @throws FlyweightError for a model, samples or output folder that cannot be used
 */
export async function searchFile(terminal: Terminal, file: string, { budget: budgetSeconds, plot, out, ...flags }: SearchFileFlags): Promise<number> {
  if (plot !== undefined) await checkFolderOf(plot, '--plot')
  const folder = out ?? dirname(file)
  await mkdir(folder, { recursive: true }).catch((cause: unknown) => {
    throw new FlyweightError('conflict', `--out: got ${folder}, expected a folder for the variants that a search finds`, { cause })
  })
  const { samples, synthetic, feedsAt, maxBatch, digest, ...subject } = await openFile(file, flags)
  const workDir = await mkdtemp(join(tmpdir(), 'flyweight-search-'))
  const interrupt = new AbortController()
  const stop = () => interrupt.abort()
  process.once('SIGINT', stop)
  const bar = terminal.bar()
  let best = bestSoFar(undefined)
  let told = ''
  try {
    const { report, kept } = await searchVariants(
      { file, digest, samples, synthetic, feedsAt, maxBatch },
      { ...subject, budgetSeconds },
      {
        workDir,
        signal: interrupt.signal,
        onReport: (report) => {
          best = bestSoFar(report)
        },
        onProgress: (fraction, step) => {
          bar.update(fraction, `${best} | ${step}`)
          // A line for a program only where something other than the fraction has changed.
          const news = JSON.stringify([best, step])
          if (!terminal.interactive && news !== told) terminal.json({ fraction, step, best })
          told = news
        },
      },
    )
    bar.stop()
    const written = kept.map((variant) => ({ variant, to: variantFile(file, variant.name, folder) }))
    for (const { variant, to } of written) await copyModel(variant.file, to)
    if (plot !== undefined) await writePlot(plot, report)
    const files = written.map(({ to }) => to)
    if (!terminal.interactive) terminal.json({ report, written: files, ...(plot === undefined ? {} : { plot }) })
    else
      for (const line of [...searchLines(report, terminal), '', ...[...files, ...(plot === undefined ? [] : [plot])].map((name) => `wrote ${name}`)])
        terminal.print(line)
    return written.length > 0 ? 0 : 1
  } finally {
    process.off('SIGINT', stop)
    bar.stop()
    await rm(workDir, { recursive: true, force: true })
  }
}
