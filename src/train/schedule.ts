// Learning rates over the steps of a training, as shares of the highest one: pure functions of the step.
import { Type, type Static } from 'typebox'
import { completeOptions } from './options.js'

const warmup = Type.Integer({ default: 0, minimum: 0, description: 'Steps at first in which the rate rises from near zero' })
const final = (value: number) => Type.Number({ default: value, minimum: 0, maximum: 1, description: 'Share of the rate at the last step' })

const schemas = {
  constant: Type.Object({ kind: Type.Literal('constant'), warmup }, { additionalProperties: false }),
  linear: Type.Object({ kind: Type.Literal('linear'), warmup, final: final(0) }, { additionalProperties: false }),
  cosine: Type.Object({ kind: Type.Literal('cosine'), warmup, final: final(0) }, { additionalProperties: false }),
  'one-cycle': Type.Object(
    {
      kind: Type.Literal('one-cycle'),
      rise: Type.Number({ default: 0.3, exclusiveMinimum: 0, exclusiveMaximum: 1, description: 'Share of the steps in which the rate rises' }),
      initial: Type.Number({ default: 0.04, minimum: 0, maximum: 1, description: 'Share of the rate at the first step' }),
      final: final(0.0001),
    },
    { additionalProperties: false },
  ),
}

export const ScheduleSchema = Type.Union(Object.values(schemas), { description: 'How the learning rate changes from step to step' })

type ScheduleOptions = Static<(typeof schemas)[keyof typeof schemas]>

/** Share of the learning rate at a step, counted from 0, of `total`. */
export type Schedule = (step: number, total: number) => number

/**
 * Cosine: Loshchilov and Hutter, "SGDR" (2017); one-cycle: Smith and Topin, "Super-Convergence" (2018), both halves cosine.
 * @param options as ScheduleSchema says; what is left out gets its default
 * @throws FlyweightError `invalid_input` that names the field, for options that do not fit
 */
export function scheduleOf(options: Partial<ScheduleOptions>, pointer = '/schedule'): Schedule {
  const complete = completeOptions(schemas, options, pointer)
  switch (complete.kind) {
    case 'constant':
      return warmed(complete.warmup, () => 1)
    case 'linear':
      return warmed(complete.warmup, (done) => 1 + (complete.final - 1) * done)
    case 'cosine':
      return warmed(complete.warmup, (done) => eased(1, complete.final, done))
    case 'one-cycle':
      return (step, total) => {
        const done = total <= 1 ? 1 : step / (total - 1)
        return done < complete.rise ? eased(complete.initial, 1, done / complete.rise) : eased(1, complete.final, (done - complete.rise) / (1 - complete.rise))
      }
  }
}

/** A linear rise over the first steps, then `rest` of the share of the other steps that is done. */
function warmed(warmup: number, rest: (done: number) => number): Schedule {
  return (step, total) => {
    if (step < warmup) return (step + 1) / (warmup + 1)
    const [at, last] = [step - warmup, total - 1 - warmup]
    return rest(last <= 0 ? 1 : Math.min(1, at / last))
  }
}

/** Half a cosine from one value to another. */
function eased(from: number, to: number, done: number): number {
  return to + ((from - to) * (1 + Math.cos(Math.PI * done))) / 2
}
