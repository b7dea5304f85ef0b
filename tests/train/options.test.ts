import Value from 'typebox/value'
import { describe, expect, it } from 'vitest'
import { FlyweightError } from '#flyweight/errors.js'
import { lossOf, LossSchema } from '#flyweight/train/losses/table.js'
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

  it.each([
    [OptimizerSchema, optimizerOf],
    [LossSchema, lossOf],
  ])('of every kind have a schema and take nothing else', (schema, make) => {
    for (const one of schema.anyOf) {
      const complete = Value.Default(one, { kind: one.properties.kind.const }) as { kind: 'sgd' & 'mse' }
      expect(Value.Check(schema, complete)).toBe(true)
      expect(Value.Check(schema, { ...complete, other: 1 })).toBe(false)
      expect(() => make(complete)).not.toThrow()
    }
  })

  it('get their defaults', () => {
    expect(optimizerOf({ kind: 'sgd' }).slots).toEqual([])
    expect(optimizerOf({ kind: 'adamw' }).slots).toEqual(['moment1', 'moment2'])
  })
})
