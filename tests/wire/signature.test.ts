// Names and shapes against a model's signature: all inputs at fault are reported at once.
import { describe, expect, it } from 'vitest'
import type { FlyweightError } from '#flyweight/errors.js'
import { checkOutputs, checkShape, decodeAll, inputError } from '#flyweight/wire/signature.js'
import type { Signature } from '#flyweight/registry/model.js'
import type { Tensor } from '#flyweight/tensor/tensor.js'

const signature: Signature = {
  inputs: [
    { name: 'a', dtype: 'float32', dims: ['n', 2] },
    { name: 'b/c', dtype: 'int64', dims: [-1] },
  ],
  outputs: [{ name: 'y', dtype: 'float32', dims: ['n'] }],
  batchable: false,
  opset: 21,
  parameters: 0,
  operators: {},
}
const tensor: Tensor = { dtype: 'float32', dims: [0, 2], data: new Float32Array() }
const entry = (name: string) => ({ name, pointer: `/inputs/${name}`, source: undefined })
const caught = (action: () => unknown): FlyweightError => {
  try {
    action()
  } catch (error) {
    return error as FlyweightError
  }
  throw new Error('nothing was thrown')
}

describe('inputs against a signature', () => {
  it('are all reported when several are at fault', () => {
    const error = caught(() =>
      decodeAll(signature, [entry('a'), entry('z'), entry('a')], () => {
        throw inputError('/inputs/a/shape', 'is odd')
      }),
    )
    expect(error.errors.map(({ pointer }) => pointer)).toEqual(['/inputs/a/shape', '/inputs/z', '/inputs/a/shape', '/inputs/b~1c'])
    expect(error.errors[1]?.detail).toBe('names the input "z", expected one of "a", "b/c"')
    expect(error.errors[3]?.detail).toBe('is missing, expected int64 [?]')
  })

  it('may not come twice', () => {
    const error = caught(() => decodeAll(signature, [entry('a'), entry('a'), entry('b/c')], () => tensor))
    expect(error.errors).toEqual([{ pointer: '/inputs/a', detail: 'gives the input "a" a second time' }])
  })

  it('keep a name that is special in JavaScript as an own field', () => {
    const special: Signature = { ...signature, inputs: [{ name: '__proto__', dtype: 'float32', dims: ['n', 2] }] }
    const inputs = decodeAll(special, [entry('__proto__')], () => tensor)
    expect(Object.keys(inputs)).toEqual(['__proto__'])
    expect(Object.getPrototypeOf(inputs)).toBe(Object.prototype)
  })

  it('have shapes whose sizes are whole and countable', () => {
    const [spec] = signature.inputs
    if (!spec) throw new Error('no spec')
    expect(checkShape(spec, [3, 2], '/s')).toEqual([3, 2])
    for (const bad of [undefined, 'x', [1.5, 2], [-1, 2], ['1', 2], [2], [2, 3], [2 ** 53, 2], [2 ** 52, 2, 2]]) {
      expect(caught(() => checkShape(spec, bad, '/s')).errors[0]?.pointer).toBe('/s')
    }
  })
})

describe('wanted outputs', () => {
  it('must exist and be named once', () => {
    const error = caught(() => checkOutputs(signature, ['y', 'q', 'y'], (index) => `/outputs/${index}`))
    expect(error.errors).toEqual([
      { pointer: '/outputs/1', detail: 'names the output "q", expected "y"' },
      { pointer: '/outputs/2', detail: 'names the output "y" a second time' },
    ])
  })
})
