// How good a model is on rows it was not trained on: the loss that it is trained by, and with labels its accuracy.
import type { Evaluation } from '../measurements.js'
import { Emitter } from '../onnx/emitter.js'
import { model as makeModel, node, valueInfo } from '../onnx/builder.js'
import { tensorNames } from '../onnx/names.js'
import { encodeModel, structuralCopy } from '../onnx/proto.js'
import { openSession, type Session } from '../runtime/session.js'
import { elementCount, type Tensor } from '../tensor/tensor.js'
import type { Dataset } from './dataset.js'
import type { EmitLoss } from './step.js'
import { observeTensors } from './tensors.js'
import type { Model } from './training-form.js'

/** The column of class indices, −1 where a row has none. */
export const LABELS = 'labels'

export interface EvaluateOptions {
  model: Model
  data: Dataset
  loss: EmitLoss
  batchSize: number
  /** Name of the output of scores, [rows, classes]. */
  output: string
  /** How many rows of a batch its loss is the mean over; default: all. */
  counted?: ((batch: Readonly<Record<string, Tensor>>) => number) | undefined
  threads?: number | undefined
  signal?: AbortSignal | undefined
}

/** Throws what the runtime throws for a model that cannot be run on the data. */
export async function evaluate({ model, data, loss, batchSize, output, counted, threads, signal }: EvaluateOptions): Promise<Evaluation> {
  const sum = { loss: 0, counted: 0, hits: 0, labelled: 0 }
  const sessions = new Map<number, Session>()
  try {
    for (let from = 0; from < data.rows; from += batchSize) {
      signal?.throwIfAborted()
      const count = Math.min(batchSize, data.rows - from)
      const rows = Array.from({ length: count }, (_, index) => from + index)
      const batch = await data.read(rows, from)
      // Losses are emitted for one batch size: the last batch may need a graph of its own.
      const session = sessions.get(count) ?? (await openWithLoss(model, { batch, loss, output, threads }))
      sessions.set(count, session)
      const results = await session.run(batch)
      const weight = counted?.(batch) ?? count
      sum.loss += Number((results[LOSS] as Tensor).data[0]) * weight
      sum.counted += weight
      const labels = batch[LABELS]
      if (labels !== undefined) addHits(sum, results[output] as Tensor, labels)
    }
  } finally {
    for (const session of sessions.values()) await session.release()
  }
  return { loss: sum.loss / Math.max(1, sum.counted), ...(sum.labelled === 0 ? {} : { accuracy: sum.hits / sum.labelled }) }
}

/** Rows of a batch that have a label: losses by labels are means over those. */
export function labelledRows(batch: Readonly<Record<string, Tensor>>): number {
  return Array.from(batch[LABELS]?.data ?? [], Number).filter((label) => label >= 0).length
}

const LOSS = 'evaluation::loss'

async function openWithLoss(
  model: Model,
  { batch, loss: emitLoss, output, threads }: { batch: Record<string, Tensor>; loss: EmitLoss; output: string; threads: number | undefined },
): Promise<Session> {
  const { graph } = structuralCopy(model)
  const inputs = Object.entries(batch).map(([name, { dtype, dims }]) => valueInfo(name, dtype, dims))
  const unique = tensorNames(model)
  const emit = new Emitter(unique)
  const tensors = await observeTensors(makeModel({ inputs, outputs: [], nodes: graph.node, initializers: graph.initializer }), batch)
  const loss = emitLoss(emit, tensors)
  emit.nodes.push(node('Identity', [loss], [LOSS]))
  const whole = makeModel({
    inputs,
    outputs: [valueInfo(LOSS, 'float32', []), valueInfo(output, tensors.dtype(output), tensors.dims(output))],
    nodes: [...graph.node, ...emit.nodes],
    initializers: [...graph.initializer, ...emit.initializers],
  })
  return openSession(encodeModel(whole), threads === undefined ? {} : { threads })
}

function addHits(sum: { hits: number; labelled: number }, { dims, data }: Tensor, labels: Tensor): void {
  const classes = elementCount(dims.slice(1))
  const scores = data as Float32Array
  for (let row = 0; row < labels.data.length; row++) {
    const label = Number(labels.data[row])
    if (label < 0) continue
    sum.labelled += 1
    let best = 0
    for (let index = 1; index < classes; index++) if ((scores[row * classes + index] as number) > (scores[row * classes + best] as number)) best = index
    if (best === label) sum.hits += 1
  }
}
