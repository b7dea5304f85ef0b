// Pass `int8-static`: int8 weights and uint8 activations with scales fixed beforehand from sample inputs,
// as QuantizeLinear/DequantizeLinear pairs (QDQ) that the runtime fuses into int8 kernels.
import { Type } from 'typebox'
import type { NodeDecision } from '../../measurements.js'
import { GraphIndex } from '../../onnx/graph.js'
import { removeDeadNodes } from '../../onnx/rewrite.js'
import { cpuFeatures } from '../../runtime/devices.js'
import { minMaxRanges } from '../calibration/min-max.js'
import { prepare } from '../prepare.js'
import { planStatic } from '../quantize/plan.js'
import { insertQdq } from '../quantize/qdq.js'
import type { Model, Pass } from './pass.js'

const parameters = Type.Object(
  {
    calibration: Type.Enum(['min-max'], { default: 'min-max', description: 'How ranges are estimated: the least and greatest value seen' }),
    depthwise: Type.Boolean({ default: true, description: 'Quantize depthwise convolutions too' }),
    exclude: Type.Array(Type.String(), { default: [], description: 'Names of nodes to leave in float' }),
  },
  { additionalProperties: false },
)

/** Largest code whose products do not saturate the 16-bit sums of CPUs without VNNI. */
const REDUCED_LIMIT = 63

export const int8Static: Pass = {
  name: 'int8-static',
  description: 'int8 weights and activations with scales calibrated on sample inputs',
  parameters,
  calibrates: true,
  async run(source, step, context) {
    const model = await prepare(source, context.workDir)
    const plan = planStatic(model.graph, { depthwise: step['depthwise'] !== false, exclude: new Set(step['exclude'] as string[]) })
    const index = new GraphIndex(model.graph)
    const observed = [...new Set(plan.parametersOf.values())].filter((tensor) => index.constantProto(tensor) === undefined && !plan.rescaled.has(tensor))
    const ranges = await minMaxRanges(model, observed, context)
    insertQdq(model.graph, { plan, ranges, limit: hasVnni() ? 127 : REDUCED_LIMIT })
    removeDeadNodes(model)
    const done = plan.decisions.filter(({ action }) => action === 'done').length
    const summary = `${done} of ${plan.decisions.length} nodes in int8, ranges of ${observed.length} tensors from ${context.samples.rows} samples`
    return { model, decisions: [...folded(source, plan.decisions), ...plan.decisions], summary }
  },
}

/** Nodes of the source that preparation merged into others: accounted for, so that none is missing from the report. */
function folded(source: Model, remaining: readonly NodeDecision[]): NodeDecision[] {
  const names = new Set(remaining.map(({ node }) => node))
  return source.graph.node
    .filter(({ name }) => !names.has(name))
    .map(({ name, opType }) => ({ node: name, opType, pass: 'int8-static', action: 'skipped', reason: 'folded into other nodes before quantization' }))
}

function hasVnni(): boolean {
  return cpuFeatures().some((feature) => feature.endsWith('_vnni') || feature.startsWith('amx'))
}
