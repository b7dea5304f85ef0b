// How a training is divided over ranks, as JSON.
import { Type, type Static } from 'typebox'
import { optionError } from '../options.js'

const OuterSchema = Type.Object(
  {
    learningRate: Type.Number({ default: 0.7, exclusiveMinimum: 0, maximum: 1000, description: 'Share of the mean movement that is taken; 1: all of it' }),
    momentum: Type.Number({ default: 0.9, minimum: 0, exclusiveMaximum: 1, description: "Nesterov's momentum, from meeting to meeting" }),
  },
  { additionalProperties: false, description: 'Where ranks meet, an optimizer follows the mean of their movements (DiLoCo); needs syncEvery above 1' },
)

export type OuterSettings = Static<typeof OuterSchema>

export const ParallelSchema = Type.Object(
  {
    data: Type.Integer({
      default: 1,
      minimum: 0,
      maximum: 256,
      description: 'Ranks in threads of their own that the rows of each step are divided over; 1: as it is; 0, with a group: none',
    }),
    group: Type.Optional(
      Type.String({ pattern: '^[A-Za-z0-9._-]{1,100}$', description: 'Workers of this name on other machines (`flyweight worker`) join, through Redis' }),
    ),
    wire: Type.Enum(['fp32', 'fp16'], { default: 'fp32', description: 'How gradients travel to other machines and back; fp16: in half the bytes' }),
    waitSeconds: Type.Number({ default: 60, minimum: 0, maximum: 86_400, description: 'How long a training with a group waits where there is no rank' }),
    buckets: Type.Integer({
      default: 1,
      minimum: 1,
      maximum: 64,
      description:
        'Parts that gradients are handed over in: those of the last layers are on their way while those before are computed, for networks that are slow',
    }),
    syncEvery: Type.Integer({
      default: 1,
      minimum: 1,
      maximum: 1000,
      description:
        'Steps that each rank takes alone on its own rows before parameters, statistics and slots are averaged, at the ends of epochs, too; 1: gradients are added up at every step',
    }),
    outer: Type.Optional(OuterSchema),
    pipeline: Type.Integer({
      default: 1,
      minimum: 1,
      maximum: 64,
      description: 'Stages, in threads of their own, that the model is cut into; with data above 1 each rank is a pipeline of so many stages; 1: whole',
    }),
    schedule: Type.Enum(['gpipe', '1f1b'], {
      default: '1f1b',
      description: 'Order of the passes in a pipeline: all forward passes first (GPipe), or backward ones as soon as there are any, which keeps less (1F1B)',
    }),
    microBatches: Type.Integer({
      default: 4,
      minimum: 1,
      maximum: 4096,
      description: "Parts of a pipeline's rows of a step that are under way in its stages at once: more of them leave stages idle for less of the time",
    }),
    recompute: Type.Boolean({
      default: false,
      description: "Backward passes of a pipeline compute the forward pass again from the stage's inputs, rather than keeping what it left",
    }),
    shardOptimizer: Type.Boolean({
      default: false,
      description:
        "Each rank keeps its share of the optimizer's state only, and updates that share of the parameters (ZeRO-1); not with lamb, nor with syncEvery above 1",
    }),
  },
  {
    additionalProperties: false,
    description: 'Ranks compute steps together; with syncEvery 1 the result is that of one process but for rounding',
  },
)

export type ParallelSettings = Static<typeof ParallelSchema>

/**
 * @param byTensor whether the optimizer updates elements by others of their tensor
 * @throws FlyweightError `invalid_input` for settings that do not go together
 */
export function checkParallel(settings: ParallelSettings, { byTensor, parts, pointer }: { byTensor: boolean; parts: number; pointer: string }): void {
  const { syncEvery, outer, shardOptimizer } = settings
  if (settings.pipeline > 1) checkPipeline(settings, parts, pointer)
  const refuse = (detail: string) => optionError(`${pointer}/shardOptimizer`, `got true with ${detail}`)
  if (shardOptimizer && byTensor) throw refuse('an optimizer that needs whole tensors, expected another optimizer than lamb')
  if (shardOptimizer && syncEvery > 1) throw refuse(`syncEvery ${syncEvery}, expected 1: ranks that take steps alone need all of the optimizer's state`)
  if (outer !== undefined && syncEvery === 1) throw optionError(`${pointer}/outer`, 'got one with syncEvery 1, expected ranks that take more steps alone')
}

/** What ranks can do and pipelines cannot. */
function checkPipeline({ pipeline, data, group, buckets, syncEvery, shardOptimizer }: ParallelSettings, parts: number, pointer: string): void {
  const refuse = (field: string, detail: string) => optionError(`${pointer}/${field}`, `got ${detail} with a pipeline of ${pipeline} stages`)
  if (group !== undefined) throw refuse('group', `"${group}"`)
  if (data === 0) throw refuse('data', '0')
  if (buckets > 1) throw refuse('buckets', `${buckets}`)
  if (syncEvery > 1) throw refuse('syncEvery', `${syncEvery}`)
  if (shardOptimizer) throw refuse('shardOptimizer', 'true')
  if (parts > 1) throw optionError(`${pointer}/pipeline`, `got ${pipeline} with parts of ${parts}, expected microBatches in place of parts`)
}
