// `flyweight train <model>`: has a running gateway train a model further, or a student on what it answers, and follows
// the job. Training a file without a gateway is train-file.ts.
import { writeFile } from 'node:fs/promises'
import { trainingPlot } from '../chart/training-plot.js'
import { FlyweightError } from '../errors.js'
import type { ShownTraining } from '../jobs/train-job.js'
import type { GatewayClient } from './client.js'
import { followJob, type JobView } from './job-progress.js'
import { checkFolderOf } from './output-file.js'
import type { Terminal } from './terminal.js'
import { settingsOf, studentOf, type TrainFlags } from './training-flags.js'
import { trainingLines } from './training-report.js'

/** @throws FlyweightError as the gateway refuses, or with the job's own code when it fails */
export async function train(terminal: Terminal, gateway: GatewayClient, model: string, flags: TrainFlags): Promise<void> {
  for (const flag of ['out', 'checkpoint', 'redis'] as const) {
    if (flags[flag] !== undefined)
      throw new FlyweightError('invalid_input', `--${flag} came with a served model, expected only with a file: the gateway sees to it`)
  }
  if (flags.plot !== undefined) await checkFolderOf(flags.plot, '--plot')
  const common = {
    training: await settingsOf(flags),
    ...(flags.data === undefined ? {} : { data: flags.data }),
    ...(flags.as === undefined ? {} : { as: flags.as }),
    ...(flags.modelVersion === undefined ? {} : { version: flags.modelVersion }),
  }
  const { id } = await (flags.student === undefined
    ? gateway.post<JobView>('/admin/finetune', { model, ...common })
    : gateway.post<JobView>('/admin/distill', { teacher: model, student: studentOf(flags.student), ...common }))
  const result = (await followJob(terminal, gateway, id)).result as ShownTraining
  if (flags.plot !== undefined) await writeFile(flags.plot, trainingPlot(result.curve))
  if (!terminal.interactive) terminal.json({ job: id, ...result })
  else for (const line of [...trainingLines(result), '', `it is the newest version of ${result.as}`]) terminal.print(line)
}
