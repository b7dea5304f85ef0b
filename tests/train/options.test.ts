import Value from 'typebox/value'
import { describe, expect, it } from 'vitest'
import { FlyweightError } from '#flyweight/errors.js'
import { optimizerOf, OptimizerSchema } from '#flyweight/train/optimizers/table.js'

/** Options of any form, as JSON may bring them. */
const given = (options: unknown) => () => optimizerOf(options as { kind: 'sgd' })

describe('options', () => {
  it.each([
    ['text', '/optimizer: got "text", expected an object like {"kind": "sgd"}'],
    [{}, '/optimizer/kind: got nothing, expected one of sgd, adam, adamw, lamb'],
    [{ kind: 'toString' }, '/optimizer/kind: got "toString", expected one of sgd, adam, adamw, lamb'],
    [{ kind: 'sgd', beta1: 0.9 }, '/optimizer/beta1: there is no such option of sgd; expected kind, momentum, nesterov, weightDecay'],
    [{ kind: 'adamw', beta1: 1 }, '/optimizer/beta1: got 1: must be < 1'],
    [{ kind: 'lamb', epsilon: 'small' }, '/optimizer/epsilon: got "small": must be number'],
  ])('refuses %j', (options, message) => {
    expect(given(options)).toThrow(message)
    expect(given(options)).toThrow(FlyweightError)
  })

  it('have a schema that knows every kind and takes nothing else', () => {
    const kinds = OptimizerSchema.anyOf.map(({ properties }) => properties.kind.const)
    expect(kinds).toEqual(['sgd', 'adam', 'adamw', 'lamb'])
    for (const kind of kinds) {
      const complete = Value.Default(OptimizerSchema.anyOf[kinds.indexOf(kind)] as (typeof OptimizerSchema.anyOf)[number], { kind })
      expect(Value.Check(OptimizerSchema, complete)).toBe(true)
      expect(Value.Check(OptimizerSchema, { ...(complete as object), other: 1 })).toBe(false)
    }
  })

  it('get their defaults', () => {
    expect(optimizerOf({ kind: 'sgd' }).slots).toEqual([])
    expect(optimizerOf({ kind: 'adamw' }).slots).toEqual(['moment1', 'moment2'])
  })
})
