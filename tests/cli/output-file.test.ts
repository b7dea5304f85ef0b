import { outputOf, variantFile } from '#flyweight/cli/output-file.js'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { describe, expect, it } from 'vitest'

describe('variantFile', () => {
  it('is beside the model, or in the folder asked for, and named after the variant', () => {
    expect(variantFile('models/digits.onnx', 'int8-static(calibration=min-max)')).toBe('models/digits.int8-static(calibration=min-max).onnx')
    expect(variantFile('models/digits.onnx', 'int8', 'out')).toBe('out/digits.int8.onnx')
  })

  it('is one file in that folder whatever nodes a recipe names, and however many', () => {
    expect(variantFile('m.onnx', 'int8-static(exclude=/model/conv1|/model/conv2)')).toBe('m.int8-static(exclude=-model-conv1|-model-conv2).onnx')
    const names = ['a', 'b'].map((last) => basename(variantFile('m.onnx', `int8-static(exclude=${'/block/conv'.repeat(40)}${last})`)))
    expect(names[0]!.length).toBeLessThan(140)
    expect(names[0]).not.toBe(names[1])
  })
})

describe('outputOf', () => {
  it('takes a folder or a file, and says before the work that a folder is missing', async () => {
    expect((await outputOf('models/digits.onnx', undefined))('int8')).toBe('models/digits.int8.onnx')
    expect((await outputOf('models/digits.onnx', tmpdir()))('int8')).toBe(join(tmpdir(), 'digits.int8.onnx'))
    expect((await outputOf('models/digits.onnx', join(tmpdir(), 'small.onnx')))('int8')).toBe(join(tmpdir(), 'small.onnx'))
    const nowhere = join(tmpdir(), 'no-such-folder', 'small.onnx')
    await expect(outputOf('models/digits.onnx', nowhere)).rejects.toThrow(`--out: got ${nowhere}, expected a file in a folder that exists`)
  })
})
