// Training by request: a model further on labelled rows, or a student on what a model answers. The work is a job.
import { Type, type Static } from 'typebox'
import type { TrainingWish } from '../../jobs/trainings.js'
import { SettingsSchema } from '../../train/settings.js'
import { StudentSchema } from '../../train/students.js'
import { answer, component, failures, strict } from '../answers.js'
import { withoutDefaults } from '../../wire/request-schemas.js'
import type { Scope, Services } from '../services.js'
import * as examples from './examples.js'
import { accept } from './jobs.js'

const tags = ['admin']
const common = {
  version: Type.Optional(Type.String({ description: 'Default: the newest that serves' })),
  data: Type.Optional(
    Type.String({
      description:
        'Rows to train on: `samples` of the model (default), its `captured` traffic, or a file or folder by its name in the `datasets` folder of the data directory',
    }),
  ),
  training: Type.Optional(
    Type.Unsafe<Record<string, unknown>>(withoutDefaults(Type.Partial(SettingsSchema, { ...strict, description: 'Settings that differ from their defaults' }))),
  ),
  as: Type.Optional(Type.String({ description: 'Model that the result becomes a version of' })),
}
const FinetuneBody = Type.Object(
  { model: Type.String(), ...common },
  { ...strict, examples: [{ model: 'digits', training: { epochs: 5, optimizer: { kind: 'adamw' } } }] },
)
const DistillBody = Type.Object(
  {
    teacher: Type.String({ description: 'The model that is learned from' }),
    student: Type.Unsafe<Record<string, unknown>>(withoutDefaults(StudentSchema)),
    ...common,
  },
  {
    ...strict,
    examples: [
      { teacher: 'digits', student: { kind: 'mlp', hidden: [32] }, training: { epochs: 20 } },
      { teacher: 'digits', student: { kind: 'shrink', width: 0.5 } },
    ],
  },
)

export function trainingRoutes(scope: Scope, { trainings }: Services): void {
  const response = {
    202: answer('The job; `Location` is where it is', component('Job'), { ...examples.job, kind: 'train', state: 'queued' }),
    ...failures('malformed', 'unknown_field', 'model_not_found', 'too_large', 'unsupported_media', 'invalid_input', 'model_not_ready'),
  }
  scope.post(
    '/admin/finetune',
    {
      schema: {
        operationId: 'finetune',
        tags,
        summary: 'Train a model further on labelled rows',
        description:
          'The model that did best on held-out rows becomes a new version of the model, or of another one (`as`). A job that is killed goes on from its last epoch.',
        body: FinetuneBody,
        response,
      },
    },
    async ({ body: { model, ...body }, headers }, reply) => accept(reply, await trainings.start(wishOf(model, body), keyOf(headers))),
  )
  scope.post(
    '/admin/distill',
    {
      schema: {
        operationId: 'distill',
        tags,
        summary: 'Train a student on what a model answers',
        description:
          'Rows need no labels; where they have them, both count (`training.loss`), as can tensors inside (`training.loss.features`). The student is built, made from the teacher, or another model. The best student becomes a version of a model of its own, by default `<teacher>-student`.',
        body: DistillBody,
        response,
      },
    },
    async ({ body: { teacher, student, ...body }, headers }, reply) =>
      accept(reply, await trainings.start({ ...wishOf(teacher, body), student }, keyOf(headers))),
  )
}

function wishOf(model: string, { version, data, training, as }: Omit<Static<typeof FinetuneBody>, 'model'>): TrainingWish {
  return {
    model,
    ...(version === undefined ? {} : { version }),
    ...(data === undefined ? {} : { data }),
    ...(training === undefined ? {} : { settings: training }),
    ...(as === undefined ? {} : { as }),
  }
}

/** What makes a request answer as the one before it. */
export function keyOf(headers: Record<string, unknown>): { idempotencyKey?: string } {
  const key = headers['idempotency-key']
  return typeof key === 'string' && key !== '' ? { idempotencyKey: key } : {}
}
