// Whether a variant can take its source's place: what is said where it cannot.
import { expect, it } from 'vitest'
import { interfaceChange } from '#flyweight/compress/interface-change.js'
import { model, node, valueInfo } from '#flyweight/onnx/builder.js'
import type { DType } from '#flyweight/tensor/tensor.js'

const of = (input: DType, output: DType, others: string[] = []) =>
  model({
    inputs: [valueInfo('x', input, ['n']), ...others.map((name) => valueInfo(name, 'float32', ['n']))],
    outputs: [valueInfo('y', output, ['n'])],
    nodes: [node('Abs', ['x'], ['y'])],
  }).graph

it('names the first input or output of another type, what it is and what it was', () => {
  expect(interfaceChange(of('float32', 'float32'), of('float32', 'float32'))).toBeUndefined()
  expect(interfaceChange(of('float32', 'float32'), of('float16', 'float16'))).toMatch(/^its input "x" is float16 where the source's is float32/)
  expect(interfaceChange(of('float32', 'float32'), of('float32', 'float16'))).toMatch(/^its output "y" is float16/)
  expect(interfaceChange(of('float32', 'float32', ['weight']), of('float32', 'float32'))).toBeUndefined()
})
