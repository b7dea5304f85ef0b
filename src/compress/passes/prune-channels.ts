// Pass `prune-channels`: whole channels, neurons and attention heads taken out of a model everywhere, so that it
// is smaller and computes less on every device. Which belong together is groups.ts's business, which matter
// importance.ts's, how many go allocate.ts's, the removal surgery.ts's.
import { Type } from 'typebox'
import { FlyweightError } from '../../errors.js'
import type { RecipeStep } from '../../measurements.js'
import { storeConstantNodes } from '../../onnx/constant-nodes.js'
import { removeDeadNodes } from '../../onnx/rewrite.js'
import { upgradeOpset } from '../../onnx/upgrade/opset.js'
import type { Tensor } from '../../tensor/tensor.js'
import { openModel } from '../open-model.js'
import { channelAxes, costs, decide, recordKept } from '../pruning/account.js'
import { chooseUnits, type Candidate } from '../pruning/allocate.js'
import { findGroups, type Group, type Groups } from '../pruning/groups.js'
import { scoreGroups, type Importance } from '../pruning/importance.js'
import { observeShapes, probeFeeds, type Shapes } from '../pruning/shapes.js'
import { keptIndices, removeChannels } from '../pruning/surgery.js'
import { foldedNodes, labelledNodes } from './decisions.js'
import type { Model, Pass, PassContext } from './pass.js'

const parameters = Type.Object(
  {
    ratio: Type.Number({ default: 0.5, minimum: 0, exclusiveMaximum: 1, description: 'Share to remove, of what target says' }),
    target: Type.Enum(['channels', 'macs', 'size'], {
      default: 'channels',
      description: 'What ratio is a share of: the channels that can go, the multiply-accumulates of a row, or the bytes of all weights',
    }),
    importance: Type.Enum(['l1', 'l2', 'bn-gamma', 'activation', 'gradient', 'random'], {
      default: 'l2',
      description:
        'What makes a channel matter: its weights (l1, l2), the scale of its BatchNormalization, what the next layers get from it on the samples (activation), its weights times their gradient (needs a training engine), or chance',
    }),
    allocation: Type.Enum(['uniform', 'global'], {
      default: 'uniform',
      description: 'Every group of channels loses the same share, or the least important channels of all groups go',
    }),
    roundTo: Type.Integer({
      default: 16,
      minimum: 1,
      maximum: 1024,
      description: 'Kept channels are a multiple of this, as kernels compute whole blocks; groups with fewer stay',
    }),
    maxRatio: Type.Number({ default: 0.9, minimum: 0, exclusiveMaximum: 1, description: 'Largest share of its channels that a group may lose' }),
    normalized: Type.Boolean({
      default: false,
      description: 'Remove channels over which LayerNormalization takes its mean, too: that changes all others',
    }),
    exclude: Type.Array(Type.String({ minLength: 1 }), { default: [], description: 'Names of nodes whose weights stay' }),
    seed: Type.Integer({ default: 0, minimum: 0, maximum: 2 ** 32 - 1, description: 'For the importance random' }),
  },
  { additionalProperties: false },
)

export const pruneChannels: Pass = {
  name: 'prune-channels',
  description: 'takes out the channels, neurons and attention heads that matter least: smaller and faster on every device, and less exact',
  parameters,
  sizeOnly: () => false,
  async run(source, step, context) {
    const model = upgradeOpset(source)
    storeConstantNodes(model.graph)
    const feeds = probeFeeds(context)
    context.onProgress?.(0, 'observing shapes')
    const shapes = await observeShapes(model, feeds, context)
    const found = findGroups(model, shapes, { exclude: excludedIn(source, step), normalized: step['normalized'] === true })
    context.signal?.throwIfAborted()
    const scores = await scoreGroups(model, found, { importance: step['importance'] as Importance, seed: Number(step['seed']) }, context)
    const candidates = found.groups.map((group, position) => ({ group, scores: scores[position] as Float64Array, width: widthOf(group, model, found) }))
    const kept = keptIndices(found, choose(model, found, { candidates, step }))
    const before = costs(model, found, () => undefined)
    const after = costs(model, found, kept)
    const decisions = decide(model, found, { kept, roundTo: Number(step['roundTo']) })
    recordKept(model, found, kept)
    removeChannels(model, found, kept)
    removeDeadNodes(model)
    context.onProgress?.(0.9, 'running the smaller model')
    await prove(model, shapes, feeds, context)
    const share = (of: 'macs' | 'bytes') => `${after[of]} of ${before[of]} (${before[of] === 0 ? 100 : Math.round((1000 * after[of]) / before[of]) / 10} %)`
    return {
      model,
      decisions: [...foldedNodes(source, decisions, 'prune-channels'), ...decisions],
      summary:
        found.groups.length === 0 ? 'no channels that can go' : `multiply-accumulates of a row left: ${share('macs')}; bytes of weights: ${share('bytes')}`,
    }
  },
}

/** @throws FlyweightError `invalid_recipe` for names that no node has: channels would be taken from what was to be spared. */
function excludedIn(source: Model, step: RecipeStep): Set<string> {
  const exclude = step['exclude'] as string[]
  const labels = new Set([...labelledNodes(source.graph)].map(({ label }) => label))
  const unknown = exclude.filter((name) => !labels.has(name))
  if (unknown.length > 0) {
    const detail = `got ${unknown.map((name) => `"${name}"`).join(', ')}, expected names of nodes of the model as this step finds it`
    throw new FlyweightError('invalid_recipe', `prune-channels: exclude: ${detail}`, { errors: [{ pointer: '/recipe/exclude', detail }] })
  }
  return new Set(exclude)
}

/** Channels of a layer that go with one unit: 1, the width of a head, or one of each group of a convolution. */
function widthOf({ members }: Group, { graph }: Model, found: Groups): number {
  const written = new Set(graph.node.flatMap((node) => channelAxes(node, found)?.output.tensor ?? []))
  const counts = members.filter(({ tensor }) => written.has(tensor)).map(({ indices }) => (indices[0] as number[]).length)
  return counts.length === 0 ? 1 : Math.min(...counts)
}

/** The classes of coordinates to remove, as few as the target asks for. */
function choose(model: Model, found: Groups, { candidates, step }: { candidates: readonly Candidate[]; step: RecipeStep }): Set<number> {
  const ratio = Number(step['ratio'])
  const unitsAt = (share: number) =>
    chooseUnits(candidates, {
      ratio: share,
      allocation: step['allocation'] as 'uniform' | 'global',
      roundTo: Number(step['roundTo']),
      maxRatio: Number(step['maxRatio']),
    })
  if (step['target'] === 'channels') return unitsAt(ratio)
  const measure = step['target'] === 'macs' ? 'macs' : 'bytes'
  const total = costs(model, found, () => undefined)[measure]
  const removedAt = (share: number) => 1 - costs(model, found, keptIndices(found, unitsAt(share)))[measure] / total
  if (total === 0 || ratio === 0) return new Set()
  let [least, most] = [0, 1]
  const possible = removedAt(most)
  if (possible < ratio) {
    const what = measure === 'macs' ? 'multiply-accumulates' : 'bytes of weights'
    const detail = `got ${ratio}, but at most ${Math.floor(possible * 1000) / 1000} of the ${what} can go with maxRatio ${step['maxRatio']} and roundTo ${step['roundTo']}`
    throw new FlyweightError('invalid_recipe', `prune-channels: ratio: ${detail}`, { errors: [{ pointer: '/recipe/ratio', detail }] })
  }
  for (let i = 0; i < 20; i++) {
    const middle = (least + most) / 2
    if (removedAt(middle) < ratio) least = middle
    else most = middle
  }
  return unitsAt(most)
}

/** Runs the smaller model on what shapes were observed with. @throws FlyweightError `invalid_model` when its outputs have other shapes. */
async function prove(model: Model, shapes: Shapes, feeds: readonly Record<string, Tensor>[], { threads, workDir }: PassContext): Promise<void> {
  const session = await openModel(model, { threads, workDir })
  try {
    for (const [set, inputs] of feeds.entries()) {
      for (const [name, { dims }] of Object.entries(await session.run(inputs))) {
        const expected = shapes.of(name)?.[set]
        if (expected !== undefined && String(expected) !== String(dims))
          throw new FlyweightError(
            'invalid_model',
            `prune-channels: output "${name}" became [${dims}], expected [${expected}]: a size is computed in a way that does not follow`,
          )
      }
    }
  } finally {
    await session.release()
  }
}
