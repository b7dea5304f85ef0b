// Sharding by request: a model, or a variant of it, in stages over several devices. The work is a job.
import { Type } from 'typebox'
import { answer, component, failures, strict } from '../answers.js'
import type { Scope, Services } from '../services.js'
import * as examples from './examples.js'
import { accept } from './jobs.js'
import { keyOf } from './training.js'

const count = Type.Union([Type.Integer({ minimum: 1 }), Type.Literal('auto')])

const Body = Type.Object(
  {
    model: Type.String(),
    version: Type.Optional(Type.String({ description: 'Default: the newest that serves' })),
    variant: Type.Optional(Type.String({ description: 'Name of the variant to cut; default the model itself' })),
    stages: Type.Optional({ ...count, description: '`auto` (default): the fewest, from two on, whose weights fit the devices' }),
    devices: Type.Optional(Type.Array(Type.String(), { minItems: 2, description: 'Names of `sharding.devices`, in the order of stages; default all' })),
    strategy: Type.Optional(
      Type.Enum(['pipeline', 'tensor', 'auto'], {
        description: '`pipeline` (default): stages one after the other; `tensor`: parts of layers side by side; `auto`: the better',
      }),
    ),
    objective: Type.Optional(Type.Enum(['latency', 'throughput'], { description: 'What `auto` chooses by; default latency' })),
    cuts: Type.Optional(Type.Array(Type.String(), { minItems: 1, description: 'By hand: names of tensors to cut after' })),
    patterns: Type.Optional(
      Type.Array(Type.Array(Type.String(), { minItems: 1 }), {
        minItems: 2,
        description: 'By hand: for each stage patterns of names of nodes, where `*` stands for anything',
      }),
    ),
    target: Type.Optional(
      Type.Enum(['local', 'kserve'], {
        description: '`local` (default): a variant that this gateway serves; `kserve`: files for KServe, which runs the stages',
      }),
    ),
    kserve: Type.Optional(
      Type.Object(
        {
          image: Type.String({ minLength: 1, description: 'Of Flyweight, for the containers' }),
          storage: Type.String({ minLength: 1, description: 'URI that will have a folder for each stage: `s3://bucket/digits`, `pvc://claim/digits`' }),
          name: Type.Optional(Type.String({ description: 'Of the InferenceGraph; default from the model' })),
          namespace: Type.Optional(Type.String()),
        },
        { ...strict, description: 'With target `kserve`: what its resources name' },
      ),
    ),
    microBatch: Type.Optional({ ...count, description: 'Rows of a micro-batch at most; `auto` (default): what answers the largest batch soonest' }),
  },
  {
    ...strict,
    examples: [
      { model: 'digits', stages: 2 },
      { model: 'digits', variant: 'int8', devices: ['cpu:0', 'cpu:1'], microBatch: 4 },
      { model: 'digits', stages: 2, target: 'kserve', kserve: { image: 'example.com/flyweight:1.0', storage: 's3://bucket/digits' } },
    ],
  },
)

export function shardRoutes(scope: Scope, { shardings }: Services): void {
  scope.post(
    '/admin/shard',
    {
      schema: {
        operationId: 'shard',
        tags: ['admin'],
        summary: 'Cut a model into stages that run on several devices',
        description:
          'Where to cut is measured, so that no stage holds up the others. The job measures the stages as a pipeline and registers a variant `sharded-2` ' +
          '(`int8-sharded-2` of a variant, `tensor-2` for parts), which is routed to like any other. With an `Idempotency-Key` header a repeated request gets the job of the first. ' +
          'With target `kserve` there is no variant: the result has the manifests, and the folder of the data directory that has what goes to the storage.',
        body: Body,
        response: {
          202: answer('The job; `Location` is where it is', component('Job'), { ...examples.job, kind: 'shard', key: 'shard:9f2c', state: 'queued' }),
          ...failures(
            'malformed',
            'unknown_field',
            'model_not_found',
            'variant_not_found',
            'too_large',
            'unsupported_media',
            'invalid_input',
            'model_not_ready',
          ),
        },
      },
    },
    ({ body, headers }, reply) => accept(reply, shardings.start(body, keyOf(headers))),
  )
}
