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
    syncEvery: Type.Integer({
      default: 1,
      minimum: 1,
      maximum: 1000,
      description:
        'Steps that each rank takes alone on its own rows before parameters, statistics and slots are averaged, at the ends of epochs, too; 1: gradients are added up at every step',
    }),
    outer: Type.Optional(OuterSchema),
  },
  {
    additionalProperties: false,
    description: 'Ranks compute steps together; with syncEvery 1 the result is that of one process but for rounding',
  },
)

export type ParallelSettings = Static<typeof ParallelSchema>

/** @throws FlyweightError `invalid_input` for settings that do not go together */
export function checkParallel({ syncEvery, outer }: ParallelSettings, pointer = '/parallel'): void {
  if (outer !== undefined && syncEvery === 1) throw optionError(`${pointer}/outer`, 'got one with syncEvery 1, expected ranks that take more steps alone')
}
