// How a training is divided over ranks, as JSON.
import { Type, type Static } from 'typebox'

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
  },
  { additionalProperties: false, description: 'Ranks compute steps together; the result is that of one process but for rounding' },
)

export type ParallelSettings = Static<typeof ParallelSchema>
