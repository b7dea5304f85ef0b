// A BERT-style encoder with random weights, written the way PyTorch exports one: MatMul and Add for linear
// layers, Reshape and Transpose around attention, Gelu by Erf. The defaults are the size of MiniLM-L6-H384.
import { model, node, tensorProto, valueInfo } from '#flyweight/onnx/builder.js'
import { randomWeights } from './random-weights.mjs'

/**
 * Inputs `input_ids` and `attention_mask`, int64 [batch, sequence]; output `last_hidden_state`,
 * float32 [batch, sequence, hidden]. Batch and sequence (at most `positions`) are free.
 * @param {{ layers?: number, hidden?: number, heads?: number, ff?: number, vocab?: number, positions?: number, seed?: number }} [size]
 */
export function buildTransformer({ layers = 6, hidden = 384, heads = 12, ff = 1536, vocab = 30522, positions = 512, seed = 1 } = {}) {
  const weights = randomWeights(seed)
  const [nodes, initializers] = [[], []]
  const constant = (name, dtype, dims, values) => {
    initializers.push(tensorProto(name, dtype, dims, values))
    return name
  }
  const random = (name, dims, shape) => {
    initializers.push(weights(name, dims, shape))
    return name
  }
  const apply = (opType, inputs, output, attributes = {}) => {
    nodes.push(node(opType, inputs, [output], { name: `/${output}`, attributes }))
    return output
  }
  const linear = (input, name, from, to) => {
    const product = apply('MatMul', [input, random(`${name}.weight`, [from, to], { deviation: 1 / Math.sqrt(from) })], `${name}.product`)
    return apply('Add', [random(`${name}.bias`, [to], { deviation: 0.05 }), product], name)
  }
  const normalized = (input, name) => {
    const [scale, shift] = [random(`${name}.weight`, [hidden], { mean: 1, deviation: 0.1 }), random(`${name}.bias`, [hidden], { deviation: 0.05 })]
    return apply('LayerNormalization', [input, scale, shift], name, { axis: -1, epsilon: { float: 1e-12 } })
  }

  const [zero, one] = [constant('zero', 'int64', [1], [0]), constant('one', 'int64', [1], [1])]
  const [onef, half, root2] = [
    constant('one.float', 'float32', [], [1]),
    constant('half', 'float32', [], [0.5]),
    constant('root2', 'float32', [], [Math.SQRT2]),
  ]
  const toHeads = constant('heads.shape', 'int64', [4], [0, 0, heads, hidden / heads])
  const fromHeads = constant('hidden.shape', 'int64', [3], [0, 0, hidden])
  const rootOfDepth = constant('root.depth', 'float32', [], [Math.sqrt(hidden / heads)])

  apply('Unsqueeze', ['attention_mask', constant('mask.axes', 'int64', [2], [1, 2])], 'mask.rank4')
  apply('Cast', ['mask.rank4'], 'mask.float', { to: 1 })
  apply('Sub', [onef, 'mask.float'], 'mask.hidden')
  const mask = apply('Mul', ['mask.hidden', constant('mask.lowest', 'float32', [], [-10000])], 'mask')

  apply('Shape', ['input_ids'], 'ids.shape')
  apply('Slice', ['ids.shape', one, constant('two', 'int64', [1], [2])], 'length')
  const allPositions = constant(
    'position_ids',
    'int64',
    [1, positions],
    Array.from({ length: positions }, (_, position) => position),
  )
  apply('Slice', [allPositions, zero, 'length', one], 'positions')
  apply('Gather', [random('embeddings.word.weight', [vocab, hidden], { deviation: 0.05 }), 'input_ids'], 'embeddings.word')
  apply('Gather', [random('embeddings.position.weight', [positions, hidden], { deviation: 0.02 }), 'positions'], 'embeddings.position')
  apply('Add', ['embeddings.word', 'embeddings.position'], 'embeddings.sum')
  let x = normalized('embeddings.sum', 'embeddings.norm')

  for (let layer = 0; layer < layers; layer++) {
    const at = (name) => `layer.${layer}.${name}`
    const split = (name, perm) => {
      apply('Reshape', [linear(x, at(name), hidden, hidden), toHeads], at(`${name}.split`))
      return apply('Transpose', [at(`${name}.split`)], at(`${name}.heads`), { perm })
    }
    const [query, key, value] = [split('query', [0, 2, 1, 3]), split('key', [0, 2, 3, 1]), split('value', [0, 2, 1, 3])]
    apply('MatMul', [query, key], at('similarity'))
    apply('Div', [at('similarity'), rootOfDepth], at('scores'))
    apply('Add', [at('scores'), mask], at('scores.masked'))
    apply('Softmax', [at('scores.masked')], at('attention'), { axis: -1 })
    apply('MatMul', [at('attention'), value], at('context.heads'))
    apply('Transpose', [at('context.heads')], at('context.split'), { perm: [0, 2, 1, 3] })
    apply('Reshape', [at('context.split'), fromHeads], at('context'))
    apply('Add', [linear(at('context'), at('attention.output'), hidden, hidden), x], at('attention.sum'))
    const attended = normalized(at('attention.sum'), at('attention.norm'))
    const inner = linear(attended, at('intermediate'), hidden, ff)
    apply('Div', [inner, root2], at('gelu.scaled'))
    apply('Erf', [at('gelu.scaled')], at('gelu.erf'))
    apply('Add', [at('gelu.erf'), onef], at('gelu.gate'))
    apply('Mul', [inner, at('gelu.gate')], at('gelu.product'))
    apply('Mul', [at('gelu.product'), half], at('gelu'))
    apply('Add', [linear(at('gelu'), at('output'), ff, hidden), attended], at('sum'))
    x = normalized(at('sum'), layer === layers - 1 ? 'last_hidden_state' : at('norm'))
  }

  return model({
    name: 'encoder',
    inputs: [valueInfo('input_ids', 'int64', ['batch', 'sequence']), valueInfo('attention_mask', 'int64', ['batch', 'sequence'])],
    outputs: [valueInfo('last_hidden_state', 'float32', ['batch', 'sequence', hidden])],
    nodes,
    initializers,
  })
}
