// Chooses the codes of all weights that go into blocks, by the method asked for, one matrix after the other.
import { setImmediate } from 'node:timers/promises'
import { tensorValues } from '../../onnx/builder.js'
import type { TensorProto } from '../../onnx/proto.js'
import type { Model, PassContext } from '../passes/pass.js'
import type { StoredConstant } from '../passes/rewrite-nodes.js'
import { roundToNearest, type BlockCodes, type BlockFormat } from './blocks.js'
import { compensatedCodes, inverseFactor } from './gptq.js'
import { refineBlock } from './hqq.js'
import { momentGroups, secondMoments } from './moments.js'
import { byOutput, type Product, type Table } from './products.js'

export const METHODS = ['rtn', 'hqq', 'gptq'] as const
export type Method = (typeof METHODS)[number]

/** Stored weights that a node can read from blocks. */
export type Weights = ({ kind: 'product' } & Product & StoredConstant) | ({ kind: 'table' } & Table)

/** Which codes of a stored matrix a node reads: those of its rows as they lie, or of its columns. */
export type Layout = 'rows' | 'columns'

export function layoutOf(weights: Weights): Layout {
  return weights.kind === 'table' || weights.matrix.transposed ? 'rows' : 'columns'
}

export interface ChosenCodes {
  codes: BlockCodes
  /** In words, for the decision. */
  how: string
}

export interface CodeOptions {
  format: BlockFormat
  method: Method
  /** Most samples to run for gptq. */
  samples: number
  /** Tables of embeddings: what is tied to them is rounded as they are. */
  tables: ReadonlySet<TensorProto>
}

/** Inputs wider than this make moments of half a gigabyte, which take minutes to factor. */
const WIDEST = 8192

/**
 * Codes by stored tensor and layout, each made once, for the first node that reads it.
 * @throws FlyweightError `invalid_model` when an input of a product is not finite on real inputs.
 */
export async function codesOf(
  model: Model,
  all: readonly Weights[],
  options: CodeOptions,
  context: PassContext,
): Promise<Map<TensorProto, Map<Layout, ChosenCodes>>> {
  const chosen = new Map<TensorProto, Map<Layout, ChosenCodes>>()
  const jobs = onceEach(all)
  let finished = 0
  const finish = async (weights: Weights, made: ChosenCodes): Promise<void> => {
    chosen.set(weights.proto, (chosen.get(weights.proto) ?? new Map<Layout, ChosenCodes>()).set(layoutOf(weights), made))
    context.onProgress?.(++finished / jobs.length, `quantizing ${finished}/${jobs.length}`)
    // Lets a signal arrive between two matrices.
    await setImmediate()
    context.signal?.throwIfAborted()
  }

  const calibrated = new Map<string, (Weights & { kind: 'product' })[]>()
  for (const weights of jobs) {
    const obstacle = options.method === 'gptq' ? obstacleOf(weights, model, options) : undefined
    if (options.method === 'gptq' && obstacle === undefined && weights.kind === 'product') {
      calibrated.set(weights.input, [...(calibrated.get(weights.input) ?? []), weights])
    } else {
      const refine = options.method === 'hqq' ? refineBlock : undefined
      const how = obstacle === undefined ? (refine ? 'scales by hqq' : 'to the nearest') : `to the nearest: ${obstacle}`
      await finish(weights, { codes: roundToNearest(valuesOf(weights), { ...sizeOf(weights), format: options.format, refine }), how })
    }
  }

  const observed = [...calibrated].map(([tensor, products]) => ({ tensor, width: products[0]!.matrix.inner }))
  for (const group of momentGroups(observed)) {
    const moments = await secondMoments(model, group, context, options.samples)
    for (const { tensor, width } of group) {
      const factor = inverseFactor(moments.get(tensor)!, width)
      for (const weights of calibrated.get(tensor)!) {
        await finish(weights, { codes: compensatedCodes(valuesOf(weights), { ...sizeOf(weights), factor }, options.format), how: 'by gptq' })
      }
      moments.delete(tensor)
    }
  }
  return chosen
}

function onceEach(all: readonly Weights[]): Weights[] {
  const seen = new Map<TensorProto, Set<Layout>>()
  return all.filter((weights) => {
    const layouts = seen.get(weights.proto) ?? new Set<Layout>()
    seen.set(weights.proto, layouts)
    const layout = layoutOf(weights)
    return !layouts.has(layout) && layouts.add(layout)
  })
}

/** Why gptq cannot compute with the inputs of these weights. */
function obstacleOf(weights: Weights, { graph }: Model, { tables }: CodeOptions): string | undefined {
  if (weights.kind === 'table' || (weights.matrix.transposed && tables.has(weights.proto))) return 'rows of an embedding are looked up, not multiplied'
  if (weights.matrix.inner > WIDEST) return `gptq of ${weights.matrix.inner} inputs would take minutes`
  const { input } = weights
  const outermost = graph.input.some(({ name }) => name === input) || graph.node.some(({ output }) => output.includes(input))
  return outermost ? undefined : 'their input is inside a subgraph'
}

/** [rows, width]: weights of one output after the other. */
function valuesOf(weights: Weights): Float32Array {
  return weights.kind === 'table' ? (tensorValues(weights.proto).data as Float32Array) : byOutput(weights.matrix)
}

function sizeOf(weights: Weights): { rows: number; width: number } {
  return weights.kind === 'table' ? weights : { rows: weights.matrix.outer, width: weights.matrix.inner }
}
