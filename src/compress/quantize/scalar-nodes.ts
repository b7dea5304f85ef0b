// Nodes that compute scale · x + shift with one constant number each (Mul, Add, Sub, Div by a scalar):
// recognising and writing them.
import { node, tensorProto, tensorValues } from '../../onnx/builder.js'
import type { GraphIndex } from '../../onnx/graph.js'
import type { NodeProto, TensorProto } from '../../onnx/proto.js'
import type { Replacement } from '../../onnx/rewrite.js'
import { dtypes } from '../../tensor/tensor.js'

export interface ScalarAffine {
  input: string
  scale: number
  shift: number
}

/** The value of a float32 constant of one element and at most one dimension (more could raise the rank of what it meets). */
export function scalarConstant(name: string | undefined, index: GraphIndex): number | undefined {
  const proto = name === undefined || name === '' ? undefined : index.constantProto(name)
  if (proto?.dataType !== dtypes.float32.onnx || proto.dims.length > 1 || proto.dims.some((dim) => dim !== 1n)) return undefined
  return Number(tensorValues(proto).data[0])
}

/** What `candidate` computes, if it is Mul, Add, Sub or Div of a computed tensor and a scalar constant. */
export function scalarAffine(candidate: NodeProto, index: GraphIndex): ScalarAffine | undefined {
  if (!/^(Mul|Add|Sub|Div)$/.test(candidate.opType)) return undefined
  const [left = '', right = ''] = candidate.input
  const [a, b] = [scalarConstant(left, index), scalarConstant(right, index)]
  const input = a === undefined ? left : right
  const constant = a ?? b
  if (constant === undefined || !Number.isFinite(constant) || index.constantProto(input) !== undefined) return undefined
  switch (candidate.opType) {
    case 'Mul':
      return { input, scale: constant, shift: 0 }
    case 'Add':
      return { input, scale: 1, shift: constant }
    case 'Sub':
      return a === undefined ? { input, scale: 1, shift: -constant } : { input, scale: -1, shift: constant }
    default:
      return a === undefined && constant !== 0 ? { input, scale: 1 / constant, shift: 0 } : undefined
  }
}

/** scale · x + shift in normal form: a Mul, then an Add, without those that change nothing; an Identity if neither does. */
export function scalarNodes({ input, scale, shift }: ScalarAffine, output: string, uniqueName: (base: string) => string): Replacement {
  const nodes: NodeProto[] = []
  const initializers: TensorProto[] = []
  const constant = (kind: string, value: number): string => {
    const name = uniqueName(`${output}::${kind}`)
    initializers.push(tensorProto(name, 'float32', [], [value]))
    return name
  }
  const [scales, shifts] = [!isOne(scale), shift !== 0]
  const scaled = scales && shifts ? uniqueName(`${output}::scaled`) : output
  if (scales) nodes.push(node('Mul', [input, constant('scale', scale)], [scaled]))
  if (shifts) nodes.push(node('Add', [scales ? scaled : input, constant('shift', shift)], [output]))
  if (nodes.length === 0) nodes.push(node('Identity', [input], [output]))
  return { nodes, initializers }
}

/** 1 within float32's rounding: 6 · (1 ÷ 6) need not give 1 exactly. */
export function isOne(scale: number): boolean {
  return Math.abs(scale - 1) < 1e-6
}
