// Options in requests: what may be left out, and which field an error names.
import { Type } from 'typebox'
import { expect, it } from 'vitest'
import { withoutDefaults } from '#flyweight/wire/request-schemas.js'
import { checkOf } from '#flyweight/wire/check.js'

const circle = Type.Object({ kind: Type.Literal('circle'), radius: Type.Number({ default: 1, minimum: 0 }) }, { additionalProperties: false })
const square = Type.Object({ kind: Type.Literal('square'), side: Type.Number() }, { additionalProperties: false })
const check = checkOf(withoutDefaults(Type.Object({ shape: Type.Union([circle, square]), count: Type.Integer({ default: 1 }) })))

it.each([[{ shape: { kind: 'circle' } }], [{ shape: { kind: 'circle', radius: 2 }, count: 3 }], [{ shape: { kind: 'square', side: 2 } }]])(
  '%j fits',
  (value) => {
    expect(() => check(value)).not.toThrow()
  },
)

it.each([
  [{ shape: { kind: 'circle', radius: -2 } }, '/shape/radius is -2'],
  [{ shape: { kind: 'square' } }, '/shape/side is missing'],
  [{ shape: { kind: 'square', side: 1, radius: 2 } }, '/shape/radius is not a field here; expected kind, side'],
  [{ shape: { kind: 'cube' } }, '/shape/kind is "cube", expected one of "circle", "square"'],
  [{ shape: {} }, '/shape/kind is missing'],
  [{ shape: 3 }, '/shape is 3, expected object'],
  [{}, '/shape is missing'],
])('%j does not', (value, message) => {
  expect(() => check(value)).toThrow(message)
})
