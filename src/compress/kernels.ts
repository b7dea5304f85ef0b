// Which integer kernels a variant really runs: read back from the graph that the runtime executes, because a
// pattern that it does not recognize costs time where it was to save some, and nothing says so.
import { join } from 'node:path'
import { rm } from 'node:fs/promises'
import type { ExecutedKernels } from '../measurements.js'
import { allGraphs, GraphIndex } from '../onnx/graph.js'
import { loadModel } from '../onnx/load.js'
import type { NodeProto } from '../onnx/proto.js'
import { openSession } from '../runtime/session.js'
import { labelOf } from './passes/decisions.js'

/** Operators that compute with integers; those that only carry integers from one to the next have names of the same kinds. */
const INTEGER = /^(QLinear\w+|QGemm|MatMulInteger|MatMulIntegerToFloat|DynamicQuantizeMatMul|DynamicQuantizeLSTM|ConvInteger|MatMulNBits|GatherBlockQuantized)$/
/** Operators with weights that have integer kernels, as they are called when they compute in float, and where their weights are. */
const FLOAT = /^(Conv|FusedConv|ConvTranspose|Gemm|FusedGemm|MatMul|FusedMatMul|LSTM|GRU)$/
const WEIGHTS = 1

/**
 * Opens the model as it would be served on the CPU and looks at what became of it. Undefined when it has no integers.
 * @throws what the runtime throws for a model that it cannot load
 */
export async function executedKernels(file: string, workDir: string): Promise<ExecutedKernels | undefined> {
  const optimized = join(workDir, 'executed.onnx')
  const session = await openSession(file, { optimizedModelFile: optimized })
  await session.release()
  try {
    const { graph } = await loadModel(optimized)
    const counts: Record<string, number> = {}
    const integer: string[] = []
    const fellBack: string[] = []
    for (const { graph: each } of allGraphs(graph)) {
      const index = new GraphIndex(each)
      for (const node of each.node) {
        if (INTEGER.test(node.opType)) {
          counts[node.opType] = (counts[node.opType] ?? 0) + 1
          integer.push(labelOf(node))
        } else if (FLOAT.test(node.opType) && hasIntegerWeights(node, index)) fellBack.push(labelOf(node))
      }
    }
    return integer.length === 0 && fellBack.length === 0 ? undefined : { counts, integer, fellBack }
  } finally {
    await rm(optimized, { force: true })
  }
}

function hasIntegerWeights({ input }: NodeProto, index: GraphIndex): boolean {
  const producer = index.producer(input[WEIGHTS] ?? '')
  return producer?.opType === 'DequantizeLinear' && index.constantProto(producer.input[0] ?? '') !== undefined
}
