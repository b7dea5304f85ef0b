// The rules of operators with weights, and of the normalizations between them.
import { intAttribute } from '../../onnx/attributes.js'
import { allAxes, axisOf, rankOf, ref, same, sizeOf, type Rule } from './coupling.js'
import { grouped, repeat } from './coordinates.js'

export const convolution: Rule = (node, { shapes }) => {
  const [x, w, b] = node.input
  const y = node.output[0]
  const groups = intAttribute(node, 'group', 1)
  const [outputs, perGroup] = [sizeOf(ref(w, 0), shapes), sizeOf(ref(w, 1), shapes)]
  const links = [...same(ref(x, 0), ref(y, 0), shapes), ...same(ref(w, 0), ref(y, 1), shapes), ...same(ref(b, 0), ref(y, 1), shapes)]
  if (groups === 1) links.push(...same(ref(x, 1), ref(w, 1), shapes))
  else if (perGroup === 1) links.push(repeat(ref(x, 1), ref(y, 1), groups, outputs / groups))
  else links.push(grouped(ref(x, 1), ref(w, 1), groups, perGroup), grouped(ref(y, 1), ref(y, 1), groups, outputs / groups))
  return { links }
}

export const transposedConvolution: Rule = (node, { shapes }) => {
  const [x, w, b] = node.input
  const y = node.output[0]
  const groups = intAttribute(node, 'group', 1)
  const [inputs, perGroup] = [sizeOf(ref(w, 0), shapes), sizeOf(ref(w, 1), shapes)]
  const links = [...same(ref(x, 0), ref(y, 0), shapes), ...same(ref(x, 1), ref(w, 0), shapes), ...same(ref(b, 0), ref(y, 1), shapes)]
  if (groups === 1) links.push(...same(ref(w, 1), ref(y, 1), shapes))
  else if (perGroup === 1 && inputs === groups) links.push(...same(ref(w, 0), ref(y, 1), shapes))
  else links.push(grouped(ref(x, 1), ref(x, 1), groups, inputs / groups), grouped(ref(y, 1), ref(w, 1), groups, perGroup))
  return { links }
}

export const gemm: Rule = (node, { shapes }) => {
  const [a, b, c] = node.input
  const y = node.output[0]
  const [ta, tb] = [intAttribute(node, 'transA', 0) === 0 ? 0 : 1, intAttribute(node, 'transB', 0) === 0 ? 0 : 1]
  const shift = 2 - rankOf(c, shapes)
  return {
    links: [
      ...same(ref(a, 1 - ta), ref(b, tb), shapes),
      ...same(ref(a, ta), ref(y, 0), shapes),
      ...same(ref(b, 1 - tb), ref(y, 1), shapes),
      ...Array.from({ length: 2 - shift }, (_, axis) => same(ref(c, axis), ref(y, axis + shift), shapes)).flat(),
    ],
  }
}

export const matMul: Rule = ({ input: [a, b], output: [y] }, { shapes }) => {
  const [rankA, rankB, rank] = [rankOf(a, shapes), rankOf(b, shapes), rankOf(y, shapes)]
  if (rankA < 2 || rankB < 2) return 'a product with a vector'
  const batch = (operand: string | undefined, own: number) =>
    Array.from({ length: own - 2 }, (_, axis) => same(ref(operand, axis), ref(y, axis + rank - own), shapes)).flat()
  return {
    links: [
      ...same(ref(a, rankA - 1), ref(b, rankB - 2), shapes),
      ...same(ref(a, rankA - 2), ref(y, rank - 2), shapes),
      ...same(ref(b, rankB - 1), ref(y, rank - 1), shapes),
      ...batch(a, rankA),
      ...batch(b, rankB),
    ],
  }
}

/** Vectors of one value a channel, at axis 1. */
export const channelNormalization: Rule = ({ input: [x, ...vectors], output: [y] }, { shapes }) => ({
  links: [...allAxes(x, y, shapes), ...vectors.flatMap((vector) => same(ref(vector, 0), ref(y, 1), shapes))],
})

/** Removing a channel changes the mean and the variance of the others. */
export const layerNormalization: Rule = (node, { shapes, normalized }) => {
  const [x, ...vectors] = node.input
  const y = node.output[0]
  const rank = rankOf(x, shapes)
  const first = axisOf(node, rank, -1)
  if (!normalized) return { links: allAxes(x, y, shapes, (axis) => axis >= first) }
  return {
    links: [
      ...allAxes(x, y, shapes),
      ...vectors.flatMap((vector) => {
        const shift = rank - rankOf(vector, shapes)
        return Array.from({ length: rank - shift }, (_, axis) => same(ref(vector, axis), ref(y, axis + shift), shapes)).flat()
      }),
    ],
  }
}

/** The features of a sequence; hidden units stay, as they feed themselves. */
export const recurrent: Rule = ({ input: [x, w, ...others] }, { shapes }) =>
  w !== undefined && others.includes(w) ? 'it uses the same weights twice' : { links: same(ref(x, 2), ref(w, 2), shapes) }
