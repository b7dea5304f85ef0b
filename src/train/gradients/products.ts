// Gradients of matrix products.
import { floatAttribute, intAttribute } from '../../onnx/attributes.js'
import type { Emitter } from '../../onnx/emitter.js'
import type { Gradient } from '../gradient.js'
import { emitSumTo } from './broadcast.js'

/**
 * Y = A·B over the last two axes, the others broadcast: dA = dY·Bᵀ, dB = Aᵀ·dY, summed over the broadcast axes. Operands
 * of one axis are rows or columns whose axis the result does not have (NumPy's matmul).
 */
export const matMul: Gradient = (context) => {
  const { node, emit, dims } = context
  const [a, b] = node.input as [string, string]
  const [dimsA, dimsB] = [dims(a), dims(b)]
  const [matrixA, matrixB] = [dimsA.length === 1 ? [1, ...dimsA] : dimsA, dimsB.length === 1 ? [...dimsB, 1] : dimsB]
  const batch = dims(node.output[0] as string).slice(0, Math.max(0, Math.max(matrixA.length, matrixB.length) - 2))
  const result = [...batch, matrixA.at(-2) as number, matrixB.at(-1) as number]
  const shaped = (tensor: string, from: readonly number[], to: readonly number[]) =>
    from.length === to.length ? tensor : emit.op('Reshape', [tensor, emit.ints(to)])
  const dy = shaped(context.upstream[0] as string, dims(node.output[0] as string), result)
  const gradientOf = (index: 0 | 1) => {
    if (!context.wants(index)) return undefined
    const [own, to] = index === 0 ? [matrixA, dimsA] : [matrixB, dimsB]
    if (index === 1 && matrixB.length === 2 && matrixA.length > 2) {
      // One product over all rows in place of one for each matrix and a sum.
      const rows = (tensor: string, width: number) => emit.op('Reshape', [tensor, emit.ints([-1, width])])
      const product = emitProduct(emit, rows(a, matrixA.at(-1) as number), rows(dy, result.at(-1) as number), { transA: true })
      return shaped(product, own, to)
    }
    const full =
      index === 0 ? emitProduct(emit, dy, shaped(b, dimsB, matrixB), { transB: true }) : emitProduct(emit, shaped(a, dimsA, matrixA), dy, { transA: true })
    return shaped(emitSumTo(emit, full, [...batch, ...own.slice(-2)], own), own, to)
  }
  return [gradientOf(0), gradientOf(1)]
}

/** Y = α·A′·B′ + β·C, where A′ and B′ are A and B, transposed or not. */
export const gemm: Gradient = (context) => {
  const { node, emit, dims } = context
  const [a, b] = node.input as [string, string]
  const [dy] = context.upstream as [string]
  const [transA, transB] = [intAttribute(node, 'transA', 0) === 1, intAttribute(node, 'transB', 0) === 1]
  const [alpha, beta] = [floatAttribute(node, 'alpha', 1), floatAttribute(node, 'beta', 1)]
  const scaled = (tensor: string, factor: number) => (factor === 1 ? tensor : emit.op('Mul', [tensor, context.scalar(factor)]))
  const product = (left: string, right: string, options: { transA: boolean; transB: boolean }) =>
    emit.op('Gemm', [left, right], { attributes: { transA: Number(options.transA), transB: Number(options.transB), alpha: { float: alpha } } })
  const dA = () => (transA ? product(b, dy, { transA: transB, transB: true }) : product(dy, b, { transA: false, transB: !transB }))
  const dB = () => (transB ? product(dy, a, { transA: true, transB: transA }) : product(a, dy, { transA: !transA, transB: false }))
  return [
    context.wants(0) ? dA() : undefined,
    context.wants(1) ? dB() : undefined,
    context.wants(2) ? scaled(emitSumTo(emit, dy, dims(node.output[0] as string), dims(node.input[2] as string)), beta) : undefined,
  ]
}

/** A product of matrices, their last two axes exchanged or not: the runtime's own operator does that without a copy. */
export function emitProduct(emit: Emitter, a: string, b: string, { transA = false, transB = false }: { transA?: boolean; transB?: boolean }): string {
  return emit.op('FusedMatMul', [a, b], { domain: 'com.microsoft', attributes: { transA: Number(transA), transB: Number(transB) } })
}
