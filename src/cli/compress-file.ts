// `flyweight compress file.onnx`: builds and judges a variant of a file without a gateway, with the
// same code a job runs. Writes nothing that the gate rejects, unless told to.
import { createHash } from 'node:crypto'
import { copyFile, mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, dirname, extname, join } from 'node:path'
import { buildVariant } from '../compress/build.js'
import { FlyweightError } from '../errors.js'
import { feedSource } from '../jobs/feed-source.js'
import { SAMPLE_FORMATS } from '../registry/samples.js'
import { inspectModel } from '../runtime/probation.js'
import { reportLines } from './report.js'
import type { Terminal } from './terminal.js'

export interface CompressFileFlags {
  recipe: string
  out?: string
  samples?: string
  minFidelity?: number
  force?: boolean
}

const DEFAULT_MIN_FIDELITY = 0.9
const BATCHES = [1, 8, 32]

/**
 * Resolves to the exit code: 0 written, 1 rejected by the gate and not written.
 * @throws FlyweightError for a model, recipe or samples that cannot be used
 */
export async function compressFile(terminal: Terminal, file: string, flags: CompressFileFlags): Promise<number> {
  const source = await readFile(file).catch((cause: unknown) => {
    throw new FlyweightError('invalid_model', `cannot read ${file}`, { cause })
  })
  const { signature } = await inspectModel(file)
  const { samples, synthetic, feedsAt } = await feedSource({ file, signature, samplesDir: flags.samples, device: 'cpu', threads: 1 })
  if (flags.samples !== undefined && synthetic) throw new FlyweightError('invalid_input', `${flags.samples} has no samples: expected ${SAMPLE_FORMATS}`)
  const workDir = await mkdtemp(join(tmpdir(), 'flyweight-compress-'))
  const bar = terminal.bar()
  try {
    const built = await buildVariant({
      sourceFile: file,
      sourceDigest: createHash('sha256').update(source).digest('hex'),
      request: flags.recipe,
      samples,
      synthetic,
      feedsAt,
      maxBatch: signature.batchable ? Math.max(...BATCHES) : 1,
      device: 'cpu',
      threads: 1,
      batches: signature.batchable ? BATCHES : [1],
      minFidelity: flags.minFidelity ?? DEFAULT_MIN_FIDELITY,
      workDir,
      onProgress: (fraction, step) => {
        bar.update(fraction, step)
        if (!terminal.interactive) terminal.json({ fraction, step })
      },
    })
    bar.stop()
    const out = flags.out ?? join(dirname(file), `${basename(file, extname(file))}.${built.name}.onnx`)
    const written = built.report.gate.admitted || flags.force === true
    if (written) await copyModel(built.file, out)
    if (!terminal.interactive) terminal.json({ out: written ? out : null, report: built.report })
    else {
      for (const line of reportLines(built.report, terminal.paint)) terminal.print(line)
      terminal.print(written ? `\nwrote ${out}` : '\nnothing written; --force writes what the gate rejected')
    }
    return written ? 0 : 1
  } finally {
    bar.stop()
    await rm(workDir, { recursive: true, force: true })
  }
}

/** Very large weights lie in files beside the model, which names them: they keep their names. */
async function copyModel(from: string, to: string): Promise<void> {
  await copyFile(from, to)
  for (const name of await readdir(dirname(from))) {
    if (name.startsWith(`${basename(from)}.`)) await copyFile(join(dirname(from), name), join(dirname(to), name))
  }
}
