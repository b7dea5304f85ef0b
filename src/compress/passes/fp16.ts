// Pass `fp16`: weights and values in half precision, those of subgraphs too; inputs and outputs of the model as before. On x64 CPUs
// this halves the file and nothing else, since the runtime computes in float32; on GPUs it is the fast form.
import { Type } from 'typebox'
import { removeDeadNodes } from '../../onnx/rewrite.js'
import { halve } from '../half/convert.js'
import { searchHalf } from '../half/search.js'
import { prepare } from '../prepare.js'
import { tensorTypes } from '../tensor-types.js'
import { foldedNodes } from './decisions.js'
import type { Pass } from './pass.js'

const parameters = Type.Object(
  {
    exclude: Type.Array(Type.String({ minLength: 1 }), { default: [], description: 'Names of nodes to leave in float32' }),
    io: Type.Enum(['float32', 'float16'], {
      default: 'float32',
      description: 'Float inputs and outputs of the model: as they were, or half precision too, for files that no gateway serves in place of the source',
    }),
    search: Type.Boolean({ default: true, description: 'Leave nodes in float32 whose values overflow on sample inputs, or that ruin the outputs' }),
    tolerance: Type.Number({
      default: 0.02,
      exclusiveMinimum: 0,
      description: 'Largest error of an output that the search accepts: root of the mean square, relative to the output',
    }),
  },
  { additionalProperties: false },
)

export const fp16: Pass = {
  name: 'fp16',
  description: 'half-precision weights and values: half the size; faster on GPUs only',
  parameters,
  sizeOnly: (device) => device === 'cpu',
  async run(source, step, context) {
    const model = await prepare(source, context.workDir)
    const types = await tensorTypes(model)
    const excluded = new Map((step['exclude'] as string[]).map((label) => [label, 'excluded by the recipe']))
    const tolerance = Number(step['tolerance'])
    const keep = step['search'] === true ? await searchHalf(model, { types, keep: excluded, tolerance }, context) : excluded
    const decisions = halve(model, { types, keep, io: step['io'] === 'float16' ? 'float16' : 'float32' })
    removeDeadNodes(model)
    const done = decisions.filter(({ action }) => action === 'done').length
    return {
      model,
      decisions: [...foldedNodes(source, decisions, 'fp16'), ...decisions],
      summary: `${done} of ${decisions.length} nodes in half precision`,
    }
  },
}
