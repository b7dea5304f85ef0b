// The configuration: one schema, defaults < file < environment < flags, frozen once loaded.
// Environment variables are FLYWEIGHT_<SECTION>_<KEY>, e.g. FLYWEIGHT_SERVER_PORT; PORT is honoured too.
import { readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { Type, type Static } from 'typebox'
import Value from 'typebox/value'
import { parse } from 'yaml'
import { FlyweightError, messageOf } from './errors.js'

const strict = { additionalProperties: false } as const

const ConfigSchema = Type.Object(
  {
    server: Type.Object(
      {
        host: Type.String({ default: '127.0.0.1', description: 'Address to bind' }),
        port: Type.Integer({ minimum: 0, maximum: 65535, default: 8080, description: '0 picks a free port' }),
        grpcPort: Type.Integer({ minimum: -1, maximum: 65535, default: -1, description: 'Of the gRPC server; 0 picks a free port, -1: none' }),
        maxBodyBytes: Type.Integer({ minimum: 1024, default: 64 * 2 ** 20 }),
        maxModelBytes: Type.Integer({ minimum: 1024, default: 2 * 2 ** 30, description: 'Largest upload to /admin/models' }),
        drainGraceMs: Type.Integer({ minimum: 0, default: 5000, description: 'After SIGTERM, still serving while /readyz says 503' }),
        drainTimeoutMs: Type.Integer({ minimum: 0, default: 30000 }),
      },
      strict,
    ),
    models: Type.Object(
      {
        directory: Type.String({ default: 'models' }),
        watch: Type.Boolean({ default: true }),
      },
      strict,
    ),
    data: Type.Object({ directory: Type.String({ default: 'data', description: 'Catalog, jobs and artifacts' }) }, strict),
    serving: Type.Object(
      {
        lanes: Type.Integer({ minimum: 1, maximum: 256, default: availableParallelism() }),
        device: Type.String({ default: 'cpu', description: 'cpu, webgpu:0, cuda:N or tensorrt:N' }),
        threadsPerLane: Type.Integer({ minimum: 1, default: 1 }),
        memoryBudgetBytes: Type.Integer({ minimum: 0, default: 0, description: '0: half of what the machine or cgroup allows' }),
        laneBudgetBytes: Type.Integer({
          minimum: 0,
          default: 0,
          description: 'Largest file of a variant that a lane may load, and weights that a device without a budget of its own may hold; 0: any',
        }),
        maxBatch: Type.Integer({ minimum: 1, maximum: 1024, default: 32 }),
        maxDelayMs: Type.Number({ minimum: 0, default: 5, description: 'Longest wait for more rows to join a batch' }),
        maxQueuedRows: Type.Integer({ minimum: 1, default: 4096, description: 'Per model' }),
        maxQueuedBytes: Type.Integer({ minimum: 1024, default: 512 * 2 ** 20, description: 'All models together' }),
        requestTimeoutMs: Type.Integer({ minimum: 1, default: 30000, description: 'Longest stay in the queue of a request without a deadline' }),
        waitTimeoutMs: Type.Integer({ minimum: 1, default: 300000, description: 'Longest wait for a build under onMiss: wait' }),
        runTimeoutMs: Type.Integer({ minimum: 1, default: 60000, description: 'A run longer than this is a hang: its lane is restarted' }),
        idleUnloadMs: Type.Integer({ minimum: 0, default: 600000, description: 'Unload a variant not used for so long; 0: never' }),
      },
      strict,
    ),
    jobs: Type.Object(
      {
        concurrency: Type.Integer({ minimum: 1, default: 1 }),
        memoryBytes: Type.Integer({ minimum: 2 ** 20, default: 4 * 2 ** 30, description: 'Limit of one job process' }),
        timeoutMs: Type.Integer({ minimum: 1000, default: 3600000 }),
        profileBatches: Type.Array(Type.Integer({ minimum: 1 }), { default: [1, 8, 32] }),
        profileBudgetMs: Type.Integer({ minimum: 100, default: 4000, description: 'Measuring time per batch size' }),
      },
      strict,
    ),
    training: Type.Object(
      { redis: Type.String({ default: '', description: 'redis://host:port through which workers of other machines join trainings that name a group' }) },
      strict,
    ),
    sharding: Type.Object(
      {
        devices: Type.Array(Type.String(), {
          default: [],
          description:
            'Where stages may be: cpu:0, cpu:1, webgpu:0, grpc://host:port, each with =64MiB for the weights that it may hold; none named: cpu:0 and so on, as many as lanes, two at least',
        }),
        microBatches: Type.Integer({ minimum: 0, default: 0, description: 'In flight in one pipeline at most; 0: two for each stage' }),
        key: Type.String({
          default: '',
          description: 'Shared by a gateway and the nodes that hold stages for it, over gRPC; a node without one takes no stages',
        }),
      },
      strict,
    ),
    log: Type.Object({ level: Type.Enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'], { default: 'info' }) }, strict),
  },
  strict,
)

export type Config = Static<typeof ConfigSchema>

/** Partial sections, as a file or the command line gives them. */
export type ConfigOverrides = { [Section in keyof Config]?: Partial<Config[Section]> }

export interface ConfigSources {
  file?: string | undefined
  environment?: Readonly<Record<string, string | undefined>>
  flags?: ConfigOverrides
}

/**
 * Merges defaults, file, environment and flags, in rising order of precedence.
 * @throws FlyweightError `invalid_config` naming every field at fault, what came and what was expected.
 */
export function loadConfig(sources: ConfigSources = {}): Config {
  const merged: Record<string, Record<string, unknown>> = Object.fromEntries(Object.keys(ConfigSchema.properties).map((section) => [section, {}]))
  const layers = [sources.file === undefined ? {} : readFile(sources.file), fromEnvironment(sources.environment ?? {}), sources.flags ?? {}]
  for (const layer of layers) {
    for (const [section, values] of Object.entries(layer as Record<string, Record<string, unknown>>)) {
      merged[section] = { ...merged[section], ...values }
    }
  }
  const config = Value.Default(ConfigSchema, merged)
  if (!Value.Check(ConfigSchema, config)) {
    const errors = Value.Errors(ConfigSchema, config).map(({ instancePath, message }) => ({
      pointer: instancePath,
      detail: `${message}; got ${JSON.stringify(Value.Pointer.Get(config, instancePath))}`,
    }))
    throw new FlyweightError('invalid_config', errors.map(({ pointer, detail }) => `${pointer || '/'} ${detail}`).join('; '), { errors })
  }
  return deepFreeze(config)
}

function readFile(file: string): unknown {
  try {
    return parse(readFileSync(file, 'utf8')) ?? {}
  } catch (cause) {
    throw new FlyweightError('invalid_config', `cannot read ${file}: ${messageOf(cause)}`, { cause })
  }
}

function fromEnvironment(environment: Readonly<Record<string, string | undefined>>): ConfigOverrides {
  const found: Record<string, Record<string, unknown>> = {}
  const set = (section: string, key: string, text: string) => {
    found[section] = { ...found[section], [key]: fromText(text) }
  }
  if (environment['PORT'] !== undefined) set('server', 'port', environment['PORT'])
  if (environment['LOG_LEVEL'] !== undefined) set('log', 'level', environment['LOG_LEVEL'])
  for (const [section, { properties }] of Object.entries(ConfigSchema.properties)) {
    for (const key of Object.keys(properties)) {
      const text = environment[`FLYWEIGHT_${section}_${key.replace(/[A-Z]/g, '_$&')}`.toUpperCase()]
      if (text !== undefined) set(section, key, text)
    }
  }
  return found
}

/** Environment values are YAML scalars, so that `8080` is a number and `[1, 8]` a list. */
function fromText(text: string): unknown {
  return parse(text) as unknown
}

function deepFreeze<T extends object>(value: T): T {
  for (const inner of Object.values(value)) if (typeof inner === 'object' && inner !== null) deepFreeze(inner)
  return Object.freeze(value)
}
