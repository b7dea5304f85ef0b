// The commands and their flags. Each command's work is in a file of its own, loaded when it is chosen:
// `flyweight models` need not load the runtime.
import { Command, CommanderError, Option } from 'commander'
import type { Sla } from '../registry/manifest.js'
import { connect } from './client.js'
import type { CompressFlags } from './compress.js'
import type { CompressFileFlags } from './compress-file.js'
import { type PixelRange, pixelRanges } from '../tensor/pixel-range.js'
import { atLeastOne, budget, fraction, integer, positive, rows, size, svgFile } from './flag-values.js'
import { OBJECTIVES, STRATEGIES } from '../shard/strategy.js'
import type { ShardFlags } from './shard.js'
import { serve, version, type ServeFlags } from './serve.js'
import type { TrainFlags } from './training-flags.js'
import { openTerminal, type Terminal } from './terminal.js'
import type { WorkerFlags } from './worker.js'

interface ClientFlags {
  url: string
  json?: boolean
}

const USAGE_ERROR = 2

/** Runs the command in `argv`; resolves to its exit code, 2 when it could not be understood. */
export async function run(argv: readonly string[]): Promise<number> {
  let exitCode = 0
  const done = (code: number): void => {
    exitCode = code
  }
  const program = new Command('flyweight')
    .description('Serves ONNX models, makes and measures cheaper variants of them, and answers each request with the best one that meets its latency SLA.')
    .version(version())
    .exitOverride()
    .showHelpAfterError('(see --help)')
  addServe(program, done)
  addModels(program)
  addCompress(program, done)
  addTrain(program)
  addWorker(program)
  addShard(program)
  addInfer(program)
  addJobs(program)
  addDoctor(program, done)
  try {
    await program.parseAsync(argv)
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error
    // Help and version arrive as errors too, with exit code 0.
    return error.exitCode === 0 ? 0 : USAGE_ERROR
  }
  return exitCode
}

function addServe(program: Command, done: (code: number) => void): void {
  program
    .command('serve')
    .description('start the gateway')
    .option('-p, --port <number>', 'port to listen on; 0 picks a free one', integer)
    .option('--grpc-port <number>', 'port of the gRPC server; 0 picks a free one; default: none', integer)
    .option('--host <address>', 'address to bind')
    .option('--models <directory>', 'models to serve')
    .option('--data <directory>', 'catalog, jobs and artifacts')
    .option('--memory <bytes>', 'memory budget of loaded models, e.g. 512MB', size)
    .option('--lanes <number>', 'worker threads that run models', integer)
    .option('--device <name>', 'cpu, webgpu:0, cuda:N or tensorrt:N')
    .option('--redis <url>', 'redis://host:port through which workers of other machines join trainings')
    .option('--config <file>', 'YAML configuration (default: config/flyweight.yaml where it exists)')
    .addOption(new Option('--log-level <level>', 'least severe level that is logged').choices(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent']))
    .option('--print-config', 'print the effective configuration and exit')
    .option('--banner', 'print the banner for people even where output is not a terminal')
    .option('--no-banner', 'JSON lines only')
    .addHelpText('after', '\nEnvironment: FLYWEIGHT_<SECTION>_<KEY>, e.g. FLYWEIGHT_SERVING_LANES=4; also PORT and LOG_LEVEL. Flags win.')
    .action(async (flags: ServeFlags, command: Command) => {
      // Commander makes a --no-… flag default to true; only what was typed counts.
      const { banner, ...rest } = flags
      done(await serve(command.getOptionValueSource('banner') === 'cli' && banner !== undefined ? { ...rest, banner } : rest))
    })
}

function addModels(program: Command): void {
  client(
    program.command('models').description('what a running gateway serves, and what was measured about each variant').argument('[name]', 'only this model'),
  ).action(async (name: string | undefined, flags: ClientFlags) => {
    const { models } = await import('./models.js')
    await models(openTerminal(flags), connect(flags.url), name)
  })
}

type CompressOptions = ClientFlags & CompressFileFlags & { modelVersion?: string; budget?: number; plot?: string }

const DEFAULT_BUDGET_S = 60

function addCompress(program: Command, done: (code: number) => void): void {
  client(
    program
      .command('compress')
      .description('make a cheaper variant of a model of a running gateway, or of an .onnx file')
      .argument('<model>', 'name of a served model, or path of an .onnx file')
      .requiredOption('-r, --recipe <recipe>', 'preset (int8), passes, e.g. int8-static(calibration=min-max)+fp16, or auto: search for the best')
      .option('--budget <seconds>', `how long to search (recipe auto only; default ${DEFAULT_BUDGET_S})`, budget)
      .option('--plot <file>', 'draw the Pareto front into this .svg file (recipe auto only)', svgFile)
      .option('--model-version <version>', 'version of a served model (default: the newest)')
      .option('-o, --out <file>', 'file or existing folder for the result; with recipe auto, the folder for all of the front (files only)')
      .option('--samples <path>', 'file or folder of sample inputs for calibration and fidelity: .npz, .npy, .jsonl, images (files only)')
      .option('--min-fidelity <number>', 'least fidelity the gate admits (files only)', fraction)
      .option('--force', 'write the file even when the gate rejects it (files only)'),
  ).action(async (model: string, flags: CompressOptions, command: Command) => {
    const terminal = openTerminal(flags)
    const { isSearch } = await import('../compress/recipe.js')
    if (isSearch(flags.recipe)) {
      if (flags.force === true) command.error('error: --force came with --recipe auto, expected only with another recipe: a search writes its front')
      return done(await searchFor(terminal, model, flags))
    }
    for (const flag of ['budget', 'plot'] as const) {
      if (flags[flag] !== undefined) command.error(`error: --${flag} ${flags[flag]} came with --recipe ${flags.recipe}, expected only with --recipe auto`)
    }
    if (model.endsWith('.onnx')) {
      const { compressFile } = await import('./compress-file.js')
      return done(await compressFile(terminal, model, flags))
    }
    const { compress } = await import('./compress.js')
    const asked: CompressFlags = { recipe: flags.recipe, ...(flags.modelVersion === undefined ? {} : { version: flags.modelVersion }) }
    done(await compress(terminal, connect(flags.url), model, asked))
  })
}

async function searchFor(terminal: Terminal, model: string, flags: CompressOptions): Promise<number> {
  const asked = { ...flags, budget: flags.budget ?? DEFAULT_BUDGET_S }
  if (model.endsWith('.onnx')) {
    const { searchFile } = await import('./search-file.js')
    return searchFile(terminal, model, asked)
  }
  const { search } = await import('./search.js')
  return search(terminal, connect(flags.url), model, { ...asked, ...(flags.modelVersion === undefined ? {} : { version: flags.modelVersion }) })
}

function addTrain(program: Command): void {
  client(
    program
      .command('train')
      .description('train a model of a running gateway, or an .onnx file, further on labelled rows; or a small student on what it answers')
      .argument('<model>', 'name of a served model, or path of an .onnx file')
      .option(
        '-d, --data <data>',
        'rows to train on: a path for a file; for a served model samples (default), captured, or the name of a dataset of the gateway',
      )
      .option(
        '-s, --student <network>',
        'train this on what the model answers: mlp:64,32 or cnn:16,32/64 or transformer:width=64,depth=4 or shrink:width=0.5,depth=0.5 or model:other',
      )
      .option('--settings <json>', 'settings that differ from their defaults, as JSON or a file of it')
      .option('--epochs <number>', 'how often each row is seen', positive)
      .option('--precision <precision>', 'float32 (default), or mixed, mixed:graph for float16 where it does no harm')
      .option('--parallel <ranks>', 'threads that the rows of each step are divided over, or stages that the model is: pipeline=2,microBatches=8')
      .option('--as <model>', 'model that the result becomes a version of (served models only)')
      .option('--model-version <version>', 'version of a served model (default: the newest)')
      .option('-o, --out <file>', 'file or existing folder for the result (files only)')
      .option('--checkpoint <file>', 'keep the state here, and go on from it when started again (files only)')
      .option('--redis <url>', 'redis://host:port through which workers join, where the settings name a group (files only)')
      .option('--plot <file>', 'draw the training curve into this .svg file', svgFile),
  ).action(async (model: string, flags: ClientFlags & TrainFlags) => {
    const terminal = openTerminal(flags)
    if (model.endsWith('.onnx')) {
      const { trainFile } = await import('./train-file.js')
      return trainFile(terminal, model, flags)
    }
    const { train } = await import('./train.js')
    return train(terminal, connect(flags.url), model, flags)
  })
}

function addWorker(program: Command): void {
  program
    .command('worker')
    .description('compute for trainings on other machines, which it finds through Redis, until it is stopped')
    .option('--redis <url>', 'redis://[user:password@]host:port; default: training.redis of the configuration')
    .option('--group <name>', 'trainings of this group only (default: any)')
    .option('--threads <number>', 'threads that compute (default: 1)', atLeastOne)
    .option('--config <file>', 'YAML configuration (default: config/flyweight.yaml where it exists)')
    .option('--json', 'JSON lines')
    .action(async (flags: WorkerFlags & { json?: boolean }) => {
      const { worker } = await import('./worker.js')
      await worker(openTerminal(flags), flags)
    })
}

function addShard(program: Command): void {
  program
    .command('shard')
    .description('cut an .onnx file into models for several devices: stages of a pipeline, or parts of its layers')
    .argument('<file>', 'path of an .onnx file')
    .option('-s, --stages <number>', 'how many stages, or parts; where to cut is measured', integer)
    .addOption(new Option('--strategy <name>', 'stages one after the other, parts side by side, or the better of both').choices(STRATEGIES).default('pipeline'))
    .addOption(new Option('--objective <what>', 'what --strategy auto chooses by').choices(OBJECTIVES).default('latency'))
    .option('--cuts <tensors>', 'cut after these tensors instead, e.g. relu_2,add_5', (text: string) => text.split(','))
    .option('--budget <bytes>', 'weights that a device may have, e.g. 512MB', size)
    .option('--samples <path>', 'file or folder of sample inputs to measure with: .npz, .npy, .jsonl, images')
    .addOption(new Option('--target <name>', 'what else to write: manifests and a model storage for KServe').choices(['files', 'kserve']).default('files'))
    .option('--image <name>', 'image of Flyweight (target kserve only)')
    .option('--storage <uri>', 'what the nodes load stages from, e.g. s3://bucket/digits (target kserve only)')
    .option('--name <name>', "of the InferenceGraph; its services add -0, -1 … (target kserve only; default: the file's)")
    .option('--namespace <name>', 'of all resources (target kserve only)')
    .requiredOption('-o, --out <folder>', 'folder for the stages, plan.json and plan.svg')
    .option('--json', 'JSON lines')
    .action(async (file: string, flags: ShardFlags & { json?: boolean }) => {
      const { shardFile } = await import('./shard.js')
      await shardFile(openTerminal(flags), file, flags)
    })
}

interface InferOptions extends ClientFlags {
  input: string[]
  rows?: { from: number; count: number }
  slaMs?: number
  minFidelity?: number
  priority?: number
  onMiss?: NonNullable<Sla['onMiss']>
  variant?: string
  modelVersion?: string
  outputs?: string[]
  pixels: PixelRange
  explain?: boolean
}

function addInfer(program: Command): void {
  client(
    program
      .command('infer')
      .description('send one request to a running gateway')
      .argument('<model>', 'name of a served model')
      .requiredOption('-i, --input <name=value...>', 'JSON, or @file with .json, .npy, .npz, .png, .jpg or .webp')
      .option('--rows <from:count>', 'rows to take from .npy and .npz files, e.g. 0:1', rows)
      .option('--sla-ms <ms>', 'deadline', positive)
      .option('--min-fidelity <number>', 'least fidelity of the answer, 0 to 1', fraction)
      .option('--priority <number>', '0 to 9, higher goes first', integer)
      .addOption(new Option('--on-miss <what>', 'when no variant meets the deadline').choices(['degrade', 'reject', 'wait']))
      .option('--variant <name>', 'pin one variant')
      .option('--model-version <version>', 'version (default: the newest)')
      .option('--outputs <name...>', 'outputs to compute (default: all)')
      .addOption(new Option('--pixels <range>', 'what black and white of an image become').choices(pixelRanges).default('0..1'))
      .option('--explain', 'show every variant and why it was or was not chosen'),
  ).action(async (model: string, options: InferOptions) => {
    const { infer } = await import('./infer.js')
    const { slaMs: latencyMs, minFidelity, priority, onMiss, modelVersion, url, ...rest } = options
    const sla = { ...defined({ latencyMs, minFidelity, priority, onMiss }) } as Sla
    await infer(openTerminal(options), connect(url), model, { ...rest, sla, ...(modelVersion === undefined ? {} : { version: modelVersion }) })
  })
}

function addJobs(program: Command): void {
  client(program.command('jobs').description('what a running gateway builds and measures').option('--cancel <id>', 'cancel this job')).action(
    async (flags: ClientFlags & { cancel?: string }) => {
      const { jobs } = await import('./jobs.js')
      await jobs(openTerminal(flags), connect(flags.url), flags)
    },
  )
}

function addDoctor(program: Command, done: (code: number) => void): void {
  program
    .command('doctor')
    .description('check this machine and the configuration, and say what to fix')
    .option('--config <file>', 'YAML configuration')
    .option('--json', 'JSON lines')
    .action(async (flags: { config?: string; json?: boolean }) => {
      const { doctor } = await import('./doctor.js')
      done(await doctor(openTerminal(flags), flags))
    })
}

function client(command: Command): Command {
  return command.option('--url <url>', 'where the gateway is', process.env['FLYWEIGHT_URL'] ?? 'http://127.0.0.1:8080').option('--json', 'JSON lines')
}

function defined(values: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined))
}
