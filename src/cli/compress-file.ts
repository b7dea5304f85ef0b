// `flyweight compress file.onnx`: builds and judges a variant of a file without a gateway, with the
// same code a job runs. Writes nothing that the gate rejects, unless told to.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { buildVariant } from '../compress/build.js'
import { sampleGradients } from '../jobs/gradient-source.js'
import { tuneOnSamples } from '../jobs/tuning.js'
import { openFile } from './file-subject.js'
import { copyModel, outputOf } from './output-file.js'
import { reportLines } from './report.js'
import type { Terminal } from './terminal.js'

export interface CompressFileFlags {
  recipe: string
  out?: string
  samples?: string
  minFidelity?: number
  force?: boolean
}

/**
 * Resolves to the exit code: 0 written, 1 rejected by the gate and not written.
 * @throws FlyweightError for a model, recipe or samples that cannot be used
 */
export async function compressFile(terminal: Terminal, file: string, flags: CompressFileFlags): Promise<number> {
  const outputFor = await outputOf(file, flags.out)
  const { digest, file: sourceFile, ...subject } = await openFile(file, flags)
  const workDir = await mkdtemp(join(tmpdir(), 'flyweight-compress-'))
  const bar = terminal.bar()
  try {
    const built = await buildVariant({
      ...subject,
      sourceFile,
      sourceDigest: digest,
      request: flags.recipe,
      gradients: sampleGradients,
      tune: tuneOnSamples,
      workDir,
      onProgress: (fraction, step) => {
        bar.update(fraction, step)
        if (!terminal.interactive) terminal.json({ fraction, step })
      },
    })
    bar.stop()
    const out = outputFor(built.name)
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
