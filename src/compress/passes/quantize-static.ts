// Pass `int8-static`: int8 weights and uint8 activations with scales fixed beforehand from sample inputs,
// as QuantizeLinear/DequantizeLinear pairs (QDQ) that the runtime fuses into int8 kernels.
import { Type } from 'typebox'
import { GraphIndex } from '../../onnx/graph.js'
import { tensorNames } from '../../onnx/names.js'
import { structuralCopy } from '../../onnx/proto.js'
import { removeDeadNodes, rewrite } from '../../onnx/rewrite.js'
import { cpuFeatures } from '../../runtime/devices.js'
import { calibrate, calibrationMethods, type Calibration, type CalibrationMethod } from '../calibration/calibrate.js'
import { prepare } from '../prepare.js'
import { addZeroBiases, correctBiases } from '../quantize/bias-correction.js'
import { uint8ParamsWithZero, type Range } from '../quantize/affine.js'
import { canonicalRules } from '../quantize/canonical.js'
import { foldConvolutions } from '../quantize/fold-convolutions.js'
import { hasFixedParameters, planStatic, rootedAt, type Plan, type PlanOptions } from '../quantize/plan.js'
import { insertQdq } from '../quantize/qdq.js'
import { planTensorRt } from '../quantize/tensorrt-plan.js'
import { insertTensorRtQdq, quantizedTensors } from '../quantize/tensorrt-qdq.js'
import { foldedNodes } from './decisions.js'
import type { Model, Pass, PassContext, PassResult } from './pass.js'

const parameters = Type.Object(
  {
    dialect: Type.Enum(['cpu', 'tensorrt'], {
      default: 'cpu',
      description: 'Where int8 pays: in kernels of ONNX Runtime on CPUs, or in engines that TensorRT builds from the file (symmetric int8)',
    }),
    calibration: Type.Enum([...calibrationMethods], {
      default: 'percentile',
      description: 'How ranges are estimated: min-max covers all values seen and is the fastest, the others clip outliers for finer steps',
    }),
    percentile: Type.Number({ default: 99.99, minimum: 50, maximum: 100, description: 'Percent of values that calibration `percentile` covers' }),
    depthwise: Type.Boolean({ default: true, description: 'Quantize depthwise convolutions too' }),
    reduceRange: Type.Enum(['auto', 'on', 'off'], {
      default: 'auto',
      description: 'Weights in 7 bits, whose products do not saturate on CPUs without VNNI; auto: where this CPU lacks it; dialect `tensorrt` always has 8',
    }),
    biasCorrection: Type.Boolean({
      default: true,
      description: 'Take out of the biases by how much the rounding of weights shifts the mean of each output channel on the samples',
    }),
    exclude: Type.Array(Type.String({ minLength: 1 }), { default: [], description: 'Names of nodes to leave in float' }),
  },
  { additionalProperties: false },
)

/** Largest code whose products do not saturate the 16-bit sums of CPUs without VNNI. */
const REDUCED_LIMIT = 63

export const int8Static: Pass = {
  name: 'int8-static',
  description: 'int8 weights and activations with scales calibrated on sample inputs',
  parameters,
  sizeOnly: () => false,
  async run(source, step, context) {
    const model = await prepare(source, context.workDir)
    const options = { depthwise: step['depthwise'] !== false, exclude: new Set(step['exclude'] as string[]) }
    const calibration = { method: step['calibration'] as CalibrationMethod, percentile: Number(step['percentile']) }
    const corrects = step['biasCorrection'] === true
    if (step['dialect'] === 'tensorrt') {
      const { decisions, summary } = await quantizeForTensorRt(model, { options, calibration, corrects }, context)
      return { model, decisions: [...foldedNodes(source, decisions, 'int8-static'), ...decisions], summary }
    }
    rewrite(model, canonicalRules)
    const { plan, ranges } = await planWithRanges(model, { options, calibration }, corrects ? part(context, 0, CALIBRATION_SHARE) : context)
    if (corrects) addZeroBiases(model, plan.quantized)
    const reference = corrects ? structuralCopy(model) : undefined
    insertQdq(model.graph, { plan, ranges, limit: isReduced(String(step['reduceRange'])) ? REDUCED_LIMIT : 127, uniqueName: tensorNames(model) })
    const corrected = reference === undefined ? 0 : await correctBiases(model, reference, plan.quantized, part(context, CALIBRATION_SHARE, 1))
    removeDeadNodes(model)
    const done = plan.decisions.filter(({ action }) => action === 'done').length
    const summary = `${done} of ${plan.decisions.length} nodes in int8, ranges of ${ranges.size} tensors from ${context.samples.rows} samples${corrects ? `, ${corrected} biases corrected` : ''}`
    return { model, decisions: [...foldedNodes(source, plan.decisions, 'int8-static'), ...plan.decisions], summary }
  },
}

/** Which share of the time calibration takes where biases are corrected after it, roughly: for progress. */
const CALIBRATION_SHARE = 0.7

function part(context: PassContext, from: number, to: number): PassContext {
  return { ...context, onProgress: (fraction, step) => context.onProgress?.(from + fraction * (to - from), step) }
}

async function quantizeForTensorRt(
  model: Model,
  { options, calibration, corrects }: { options: Pick<PlanOptions, 'depthwise' | 'exclude'>; calibration: Calibration; corrects: boolean },
  context: PassContext,
): Promise<Pick<PassResult, 'decisions' | 'summary'>> {
  rewrite(model, [foldConvolutions])
  const plan = planTensorRt(model.graph, options)
  const ranges = await calibrate(model, quantizedTensors(plan), calibration, corrects ? part(context, 0, CALIBRATION_SHARE) : context)
  if (corrects) addZeroBiases(model, plan.weighted)
  const reference = corrects ? structuralCopy(model) : undefined
  insertTensorRtQdq(model.graph, { plan, ranges, uniqueName: tensorNames(model) })
  const corrected = reference === undefined ? 0 : await correctBiases(model, reference, plan.weighted, part(context, CALIBRATION_SHARE, 1))
  removeDeadNodes(model)
  const summary = `${plan.weighted.size} of ${plan.decisions.length} nodes in int8 with Q/DQ where TensorRT wants them, ${plan.residual.size} residual inputs, ranges of ${ranges.size} tensors from ${context.samples.rows} samples${corrects ? `, ${corrected} biases corrected` : ''}; no gain without TensorRT: on a CPU take dialect cpu`
  return { decisions: plan.decisions, summary }
}

/**
 * A shift that no zero point expresses well is found out only when ranges are known; the plan is then made again without it.
 * What that one needs is calibrated together with what the first does: running the model on all samples is what takes time.
 */
async function planWithRanges(
  model: Model,
  { options, calibration }: { options: Omit<PlanOptions, 'computedShifts'>; calibration: Calibration },
  context: PassContext,
): Promise<{ plan: Plan; ranges: ReadonlyMap<string, Range> }> {
  const index = new GraphIndex(model.graph)
  const computedShifts = new Set<string>()
  const ranges = new Map<string, Range>()
  for (;;) {
    const plan = planStatic(model.graph, { ...options, computedShifts })
    const shifted = shiftedTensors(plan)
    const without = planStatic(model.graph, { ...options, computedShifts: new Set([...computedShifts, ...shifted]) })
    const unknown = [...new Set([...plan.parametersOf.values(), ...shifted, ...without.parametersOf.values()])].filter(
      (tensor) => !ranges.has(tensor) && index.constantProto(tensor) === undefined && !hasFixedParameters(tensor, index),
    )
    for (const [tensor, range] of await calibrate(model, unknown, calibration, context)) ranges.set(tensor, range)
    const costly = shifted.filter((tensor) => {
      const { input, scale, shift } = rootedAt(tensor, plan.rescaled)
      const range = ranges.get(input)
      return range !== undefined && uint8ParamsWithZero(range, -shift / scale) === undefined
    })
    if (costly.length === 0) return { plan, ranges }
    for (const tensor of costly) computedShifts.add(tensor)
  }
}

function shiftedTensors({ rescaled }: Plan): string[] {
  return [...rescaled].flatMap(([tensor, { shift }]) => (shift === 0 ? [] : [tensor]))
}

function isReduced(reduceRange: string): boolean {
  return reduceRange === 'on' || (reduceRange === 'auto' && !hasVnni())
}

function hasVnni(): boolean {
  return cpuFeatures().some((feature) => feature.endsWith('_vnni') || feature.startsWith('amx'))
}
