// How a training is divided over ranks, as JSON.
import { Type } from 'typebox'

export const ParallelSchema = Type.Object(
  {
    data: Type.Integer({ default: 1, minimum: 1, maximum: 256, description: 'Ranks that the rows of each step are divided over; 1: as it is' }),
  },
  { additionalProperties: false, description: 'Ranks compute steps together; the result is that of one process but for rounding' },
)
