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
export function checkParallel({ syncEvery, outer, shardOptimizer }: ParallelSettings, { byTensor, pointer }: { byTensor: boolean; pointer: string }): void {
  const refuse = (detail: string) => optionError(`${pointer}/shardOptimizer`, `got true with ${detail}`)
  if (shardOptimizer && byTensor) throw refuse('an optimizer that needs whole tensors, expected another optimizer than lamb')
  if (shardOptimizer && syncEvery > 1) throw refuse(`syncEvery ${syncEvery}, expected 1: ranks that take steps alone need all of the optimizer's state`)
  if (outer !== undefined && syncEvery === 1) throw optionError(`${pointer}/outer`, 'got one with syncEvery 1, expected ranks that take more steps alone')
}
