// What a request's inputs and outputs must be to fit a model: names, dtypes, shapes, sizes. Nothing is
// allocated before it passed here, so a declared shape cannot cost more memory than the body that declares it.
import { FlyweightError, type FieldError } from '../errors.js'
import type { Signature } from '../onnx/summary.js'
import type { Tensor, TensorSpec } from '../tensor/tensor.js'
import { describe, pointerToken, shapeText } from './describe.js'

/** An input at fault: 422 with a JSON pointer. */
export function inputError(pointer: string, detail: string): FlyweightError {
  return refuse([{ pointer, detail }])
}

/**
 * Checks a declared shape against the model's: rank, fixed dimensions, and that the number of elements can be counted.
 * @param pointer where the shape stands in the request
 * @throws FlyweightError `invalid_input`
 */
export function checkShape(spec: TensorSpec, dims: unknown, pointer: string): readonly number[] {
  if (!Array.isArray(dims) || !dims.every((dim) => Number.isSafeInteger(dim) && dim >= 0)) {
    const came = Array.isArray(dims) ? describe(dims.find((dim) => !Number.isSafeInteger(dim) || dim < 0)) : describe(dims)
    throw inputError(pointer, `came with ${came}, expected a list of sizes like ${shapeText(spec.dims)}`)
  }
  const shape = dims as number[]
  const fits = shape.length === spec.dims.length && spec.dims.every((dim, axis) => typeof dim === 'string' || dim < 0 || dim === shape[axis])
  if (!fits) throw inputError(pointer, `came with shape ${shapeText(shape)}, expected ${shapeText(spec.dims)}`)
  let count = 1
  for (const dim of shape) {
    count *= dim
    if (count > Number.MAX_SAFE_INTEGER) throw inputError(pointer, `came with shape ${shapeText(shape)}, which has too many elements to count`)
  }
  return shape
}

/** @throws FlyweightError `invalid_input` when the dtype is not the model's. */
export function checkType(expected: string, came: unknown, pointer: string): void {
  if (came !== expected) throw inputError(pointer, `came as ${describe(came)}, expected ${expected}`)
}

/**
 * Decodes every named input once, and reports all inputs at fault together: unknown, missing, and those `decode` refuses.
 * @param entries name, pointer and what `decode` makes a tensor of
 */
export function decodeAll<Source>(
  signature: Pick<Signature, 'inputs'>,
  entries: readonly { name: string; pointer: string; source: Source }[],
  decode: (spec: TensorSpec, source: Source, pointer: string) => Tensor,
): Record<string, Tensor> {
  const faults: FieldError[] = []
  const tensors = new Map<string, Tensor>()
  for (const { name, pointer, source } of entries) {
    const spec = signature.inputs.find((input) => input.name === name)
    if (spec === undefined) {
      faults.push({ pointer, detail: `names the input ${describe(name)}, expected ${namesOf(signature.inputs)}` })
      continue
    }
    if (tensors.has(name)) {
      faults.push({ pointer, detail: `gives the input ${describe(name)} a second time` })
      continue
    }
    try {
      tensors.set(name, decode(spec, source, pointer))
    } catch (error) {
      if (!(error instanceof FlyweightError) || error.code !== 'invalid_input') throw error
      faults.push(...error.errors)
    }
  }
  for (const { name, dtype, dims } of signature.inputs) {
    if (tensors.has(name) || entries.some((entry) => entry.name === name)) continue
    faults.push({ pointer: `/inputs/${pointerToken(name)}`, detail: `is missing, expected ${dtype} ${shapeText(dims)}` })
  }
  if (faults.length > 0) throw refuse(faults)
  return Object.fromEntries(tensors)
}

/**
 * Wanted outputs must exist and be named once.
 * @param pointerOf where the name at an index stands in the request
 */
export function checkOutputs(signature: Signature, names: readonly string[], pointerOf: (index: number) => string): void {
  const faults = names.flatMap((name, index): FieldError[] => {
    if (!signature.outputs.some((output) => output.name === name))
      return [{ pointer: pointerOf(index), detail: `names the output ${describe(name)}, expected ${namesOf(signature.outputs)}` }]
    if (names.indexOf(name) !== index) return [{ pointer: pointerOf(index), detail: `names the output ${describe(name)} a second time` }]
    return []
  })
  if (faults.length > 0) throw refuse(faults)
}

function refuse(faults: readonly FieldError[]): FlyweightError {
  return new FlyweightError('invalid_input', faults.map(({ pointer, detail }) => `${pointer || 'the body'} ${detail}`).join('; '), { errors: faults })
}

function namesOf(specs: readonly TensorSpec[]): string {
  const names = specs.map(({ name }) => describe(name))
  return names.length === 1 ? String(names[0]) : `one of ${names.join(', ')}`
}
