// Whether a variant takes and gives tensors of the types that its source does. One that does not can be a file of
// its own, but cannot be served in the source's place.
import { dtypeOf } from '../onnx/builder.js'
import type { GraphProto, ValueInfoProto } from '../onnx/proto.js'

type Interface = Pick<GraphProto, 'input' | 'output'>

/** What differs, in a sentence for the user; undefined where nothing does. Initializers that are inputs too do not count. */
export function interfaceChange(source: Interface, variant: Interface): string | undefined {
  for (const side of ['input', 'output'] as const) {
    for (const after of variant[side]) {
      const before = source[side].find(({ name }) => name === after.name)
      if (before !== undefined && typeOf(before) !== typeOf(after)) {
        return `its ${side} "${after.name}" is ${typeOf(after)} where the source's is ${typeOf(before)}, so it cannot be served in the source's place; it can be a file of its own`
      }
    }
  }
  return undefined
}

function typeOf({ type }: ValueInfoProto): string {
  return type?.value.case === 'tensorType' ? (dtypeOf(type.value.value.elemType) ?? 'of an unknown type') : 'no tensor'
}
