// Brings a model into the form that quantization works on: a current opset, constants folded, and
// BatchNormalization, Add and Mul merged into the convolutions before them. The runtime's own basic
// optimizer does the folding, so what is quantized is what it would have run.
import { mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { subgraphs } from '../onnx/attributes.js'
import { loadModel, saveModel } from '../onnx/load.js'
import { upgradeOpset } from '../onnx/upgrade/opset.js'
import { collectGarbage } from '../runtime/collect-garbage.js'
import { openSession } from '../runtime/session.js'
import { LARGE_BYTES, weightBytes } from './open-model.js'
import type { Model } from './passes/pass.js'
import { shareConstants } from './shared-constants.js'

/** @throws FlyweightError `invalid_model` when a node has no equivalent in opset 21; what the runtime throws. */
export async function prepare(model: Model, workDir: string): Promise<Model> {
  // The step before this one may have left a model of its own that nobody reads any more.
  if (weightBytes(model) >= LARGE_BYTES) collectGarbage()
  const folder = await mkdtemp(join(workDir, 'prepare-'))
  try {
    const [before, after] = [join(folder, 'before.onnx'), join(folder, 'after.onnx')]
    await saveModel(upgradeOpset(model), before, { externalThresholdBytes: LARGE_BYTES })
    const beside = weightBytes(model) >= LARGE_BYTES && !model.graph.node.some((node) => subgraphs(node).length > 0)
    const session = await openSession(before, {
      optimization: 'basic',
      optimizedModelFile: after,
      ...(beside ? { optimizedWeightsFile: 'after.onnx.data' } : {}),
    })
    await session.release()
    const prepared = await loadModel(after, { known: new Map(model.graph.initializer.map(({ name, rawData }) => [name, rawData])) })
    shareConstants(prepared)
    return prepared
  } finally {
    await rm(folder, { recursive: true })
  }
}
