// A small transformer encoder as a network to train: images become patches, rows of features become tokens; blocks
// normalize first (Xiong et al., "On Layer Normalization in the Transformer Architecture", 2020), and the mean over
// tokens is classified. As Dosovitskiy et al., "An Image is Worth 16x16 Words" (2020), but for the class token.
import { Type, type Static } from 'typebox'
import type { Layers } from './network-layers.js'
import { optionError } from './options.js'

export const TransformerSchema = Type.Object(
  {
    kind: Type.Literal('transformer'),
    width: Type.Integer({ default: 64, minimum: 1, maximum: 8192, description: 'Features of a token; a multiple of heads' }),
    depth: Type.Integer({ default: 4, minimum: 1, maximum: 64, description: 'Blocks of attention and a perceptron' }),
    heads: Type.Integer({ default: 4, minimum: 1, maximum: 256, description: 'Heads of attention' }),
    expansion: Type.Integer({ default: 2, minimum: 1, maximum: 16, description: 'Hidden units of a block’s perceptron, as a multiple of width' }),
    patch: Type.Integer({ default: 4, minimum: 1, maximum: 512, description: 'Pixels of a patch’s side; divides height and width of images' }),
  },
  {
    additionalProperties: false,
    description: 'An encoder for images of channels, height and width, or for rows of steps and features, with learned positions and the mean over tokens',
  },
)

type Spec = Static<typeof TransformerSchema>

/** Deviation that learned positions start with. */
const POSITION_DEVIATION = 0.02

/**
 * Emits the network from rows of `input.dims` to scores; returns the output's name.
 * @throws FlyweightError `invalid_input` naming the field, where numbers do not divide each other or the input has other dims
 */
export function transformer(
  layers: Layers,
  spec: Spec,
  { input, output }: { input: { name: string; dims: readonly number[] }; output: { name: string; classes: number } },
): string {
  const { width, depth, heads } = spec
  if (width % heads !== 0) throw optionError('/student/heads', `got ${heads}, expected a divisor of the ${width} features of a token`)
  const { at: embedded, tokens } = embed(layers, spec, input)
  const positions = layers.weight('positions', [1, tokens, width], POSITION_DEVIATION ** 2)
  let at = layers.node('Add', [embedded, positions], 'tokens')
  for (let index = 1; index <= depth; index++) at = block(layers, spec, { input: at, name: `block${index}`, tokens })
  const normalized = layers.layerNorm(at, 'norm', width)
  return layers.dense(layers.flatten(layers.pool(layers.node('Transpose', [normalized], 'features', { perm: [0, 2, 1] }))), width, [], output)
}

/** Tokens of [rows, tokens, width]. */
function embed(layers: Layers, { width, patch }: Spec, { name, dims }: { name: string; dims: readonly number[] }): { at: string; tokens: number } {
  const [first = 0, second = 0, third] = dims
  if (dims.length === 2) return { at: layers.linear(name, 'embedding', [second, width]), tokens: first }
  if (dims.length !== 3 || third === undefined) {
    const detail = `a transformer needs an input of channels, height and width, or of steps and features, got rows of dims [${dims.join(', ')}]`
    throw optionError('/student/kind', detail)
  }
  if (second % patch !== 0 || third % patch !== 0) throw optionError('/student/patch', `got ${patch}, expected a divisor of images of ${second}×${third}`)
  const tokens = (second / patch) * (third / patch)
  layers.weight('embedding.weight', [width, first, patch, patch], 1 / (first * patch ** 2))
  layers.fill('embedding.bias', width, 0)
  const patches = layers.node('Conv', [name, 'embedding.weight', 'embedding.bias'], 'embedding', { kernel_shape: [patch, patch], strides: [patch, patch] })
  return { at: layers.node('Transpose', [layers.reshape(patches, 'patches', [0, width, tokens])], 'sequence', { perm: [0, 2, 1] }), tokens }
}

/** x + attention(norm(x)), then the same with a perceptron. */
function block(layers: Layers, { width, heads, expansion }: Spec, { input, name, tokens }: { input: string; name: string; tokens: number }): string {
  const size = width / heads
  const normalized = layers.layerNorm(input, `${name}.norm1`, width)
  const split = (part: 'query' | 'key' | 'value', perm: number[]) => {
    const projected = layers.linear(normalized, `${name}.${part}`, [width, width])
    return layers.node('Transpose', [layers.reshape(projected, `${name}.${part}.split`, [0, tokens, heads, size])], `${name}.${part}.heads`, { perm })
  }
  const [query, key, value] = [split('query', [0, 2, 1, 3]), split('key', [0, 2, 3, 1]), split('value', [0, 2, 1, 3])]
  const scale = layers.scalar(`${name}.scale`, 1 / Math.sqrt(size))
  const similarity = layers.node('Mul', [layers.node('MatMul', [query, key], `${name}.similarity`), scale], `${name}.scaled`)
  const weights = layers.node('Softmax', [similarity], `${name}.weights`, { axis: -1 })
  const mixed = layers.node('MatMul', [weights, value], `${name}.mixed`)
  const joined = layers.reshape(layers.node('Transpose', [mixed], `${name}.turned`, { perm: [0, 2, 1, 3] }), `${name}.joined`, [0, tokens, width])
  const attended = layers.node('Add', [input, layers.linear(joined, `${name}.projection`, [width, width])], `${name}.attended`)
  const expanded = layers.linear(layers.layerNorm(attended, `${name}.norm2`, width), `${name}.expand`, [width, width * expansion])
  return layers.node('Add', [attended, layers.linear(layers.node('Gelu', [expanded], `${name}.gelu`), `${name}.contract`, [width * expansion, width])], name)
}
