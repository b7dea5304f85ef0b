// A shard plan as KServe's resources: an InferenceService a stage, and an InferenceGraph that sends each stage's answer to
// the next. Pure; what the fields mean to KServe is told in docs/kserve.md.
import { FlyweightError } from '../errors.js'
import type { StagePlan } from '../measurements.js'

export interface KserveOptions {
  /** Of the InferenceGraph; services add `-0` and so on. */
  name: string
  namespace?: string
  /** Of Flyweight. */
  image: string
  /** URI that has a folder for each stage, named as its service: `s3://bucket/digits`, `pvc://claim/digits`. */
  storage: string
}

type PlannedStage = Pick<StagePlan, 'device' | 'weightBytes' | 'inBytes' | 'outBytes'>

interface Metadata {
  name: string
  namespace?: string
}

export interface Manifest {
  apiVersion: string
  kind: 'InferenceService' | 'InferenceGraph'
  metadata: Metadata
  spec: Readonly<Record<string, unknown>>
}

/** A service's host is its name and KServe's endings, at most 63 characters: https://www.rfc-editor.org/rfc/rfc1123 */
const LONGEST_NAME = 40
/** KServe's own rule (ISVC names and graph names alike): its names are DNS-1123 labels that begin with a letter. */
const NAME = /^[a-z]([-a-z0-9]*[a-z0-9])?$/
/** The gateway itself and the runtime, without a model. */
const BASE_BYTES = 512 * 2 ** 20
/** Weights in the file's buffer and in the session; values of micro-batches as text and as tensors. */
const [WEIGHT_COPIES, VALUE_COPIES] = [2.5, 64]
const MIB = 2 ** 20
const PORT = 8080
/** KServe's storage initializer puts what STORAGE_URI names here. */
const MODELS = '/mnt/models'

/** Text as a name that KServe takes: what it does not take becomes `-`. */
export function kserveName(text: string): string {
  const name = text
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^[^a-z]+/, '')
    .slice(0, LONGEST_NAME)
    .replace(/-+$/, '')
  return name === '' ? 'model' : name
}

/** Names of the services, and so of the models in them and of their folders below `storage`. */
export function serviceNames(name: string, stages: number): string[] {
  return Array.from({ length: stages }, (_, stage) => `${name}-${stage}`)
}

/**
 * The services in order, then the graph.
 * @throws FlyweightError `invalid_input` for a name that KServe would refuse
 */
export function kserveManifests(stages: readonly PlannedStage[], options: KserveOptions): Manifest[] {
  const { name, namespace } = options
  for (const [field, text] of Object.entries({ name, ...(namespace === undefined ? {} : { namespace }) })) {
    if (NAME.test(text) && text.length <= (field === 'name' ? LONGEST_NAME : 63)) continue
    const most = field === 'name' ? LONGEST_NAME : 63
    throw new FlyweightError('invalid_input', `${field}: got "${text}", expected at most ${most} of a-z, 0-9 and -, a letter first and no - last`)
  }
  const names = serviceNames(name, stages.length)
  const metadata = (each: string): Metadata => ({ name: each, ...(namespace === undefined ? {} : { namespace }) })
  return [
    ...stages.map(
      (stage, index): Manifest => ({
        apiVersion: 'serving.kserve.io/v1beta1',
        kind: 'InferenceService',
        metadata: metadata(names[index]!),
        spec: { predictor: predictorOf(stage, names[index]!, options) },
      }),
    ),
    {
      apiVersion: 'serving.kserve.io/v1alpha1',
      kind: 'InferenceGraph',
      metadata: metadata(name),
      spec: {
        nodes: {
          root: {
            routerType: 'Sequence',
            // Hard: without it the router would send an error's body on to the next stage.
            steps: names.map((serviceName, index) => ({ name: serviceName, serviceName, data: index === 0 ? '$request' : '$response', dependency: 'Hard' })),
          },
        },
      },
    },
  ]
}

function predictorOf(stage: PlannedStage, name: string, { image, storage }: KserveOptions): object {
  const gpu = /^(cuda|tensorrt)(:|$)/.test(stage.device) ? { 'nvidia.com/gpu': '1' } : {}
  const memory = `${Math.ceil((BASE_BYTES + WEIGHT_COPIES * stage.weightBytes + VALUE_COPIES * (stage.inBytes + stage.outBytes)) / MIB)}Mi`
  return {
    minReplicas: 1,
    containers: [
      {
        name: 'kserve-container',
        image,
        args: ['serve', '--host', '0.0.0.0', '--port', String(PORT), '--models', MODELS, '--data', '/data', ...deviceArgs(stage.device)],
        env: [
          { name: 'STORAGE_URI', value: `${storage.replace(/\/+$/, '')}/${name}` },
          // The router calls /v2/models/<service>/infer for it.
          { name: 'PROTOCOL', value: 'v2' },
        ],
        ports: [{ containerPort: PORT, protocol: 'TCP' }],
        readinessProbe: { httpGet: { path: `/v2/models/${name}/ready`, port: PORT } },
        resources: { requests: { cpu: '1', memory }, limits: { memory, ...gpu } },
      },
    ],
  }
}

/** The container sees one GPU, whatever its number was where the plan was made. */
function deviceArgs(device: string): string[] {
  const [kind] = device.split(':')
  return kind === 'cuda' || kind === 'tensorrt' ? ['--device', `${kind}:0`] : []
}
