import { variantFile } from '#flyweight/cli/output-file.js'
import { basename } from 'node:path'
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
