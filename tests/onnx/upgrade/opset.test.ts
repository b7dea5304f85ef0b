// The upgrade as a whole: subgraphs, Scan 8, names, what it leaves alone and what it refuses.
import { describe, expect, it } from 'vitest'
import { graph, model, node, tensorProto, valueInfo } from '#flyweight/onnx/builder.js'
import type { NodeProto } from '#flyweight/onnx/proto.js'
import { rewrite } from '#flyweight/onnx/rewrite.js'
import { summarize } from '#flyweight/onnx/summary.js'
import { upgradeOpset } from '#flyweight/onnx/upgrade/opset.js'
import { largestDifference, looseModel, noise, run } from '../running.js'

const x234 = noise([2, 3, 4])

describe('upgrade of Scan 8', () => {
  const body = graph({
    inputs: [valueInfo('sum_in', 'float32', [3]), valueInfo('next', 'float32', [3])],
    outputs: [valueInfo('sum_out', 'float32', [3]), valueInfo('scanned', 'float32', [3])],
    nodes: [node('Add', ['sum_in', 'next'], ['sum_out']), node('Mul', ['sum_out', 'factor'], ['scanned'])],
  })
  const scan = (directions: number[], lengths = '') =>
    looseModel(
      {
        feeds: { state: noise([2, 3]), x: noise([2, 4, 3], 2) },
        opset: 8,
        constants: [tensorProto('factor', 'float32', [], [3]), tensorProto('n', 'int64', [2], [4, 2])],
      },
      [node('Scan', [lengths, 'state', 'x'], ['final', 'all'], { attributes: { body, num_scan_inputs: 1, directions } })],
      ['final', 'all'],
    )

  it.each([0, 1])('runs the loop for each row of the batch (direction %i), reading outer constants', async (direction) => {
    const feeds = { state: noise([2, 3]), x: noise([2, 4, 3], 2) }
    const old = scan([direction])
    expect(largestDifference(await run(old, feeds), await run(upgradeOpset(old), feeds))).toBe(0)
  })

  it('is refused with sequence_lens, by name', () => {
    expect(() => upgradeOpset(scan([0], 'n'))).toThrow(/node "final" \(Scan\) cannot be upgraded: it has sequence_lens/)
  })
})

describe('upgradeOpset', () => {
  const clip = (name: string) => node('Clip', ['x'], [name], { name: `clip ${name}`, attributes: { max: { float: 0.5 } } })
  const nothing = { feeds: { x: x234 }, opset: 9 }

  it('reaches into the branches of If and the body of Loop', async () => {
    const branch = (name: string, nodes: NodeProto[]) => graph({ name, inputs: [], outputs: [valueInfo(`${name}_y`, 'float32', [2, 3, 4])], nodes })
    const yes = branch('yes', [node('Softmax', ['x'], ['yes_y'], { attributes: { axis: 1 } })])
    const no = branch('no', [clip('no_y')])
    const inputs = [valueInfo('x', 'float32', [2, 3, 4]), valueInfo('which', 'bool', [])]
    const nodes = [node('If', ['which'], ['y'], { attributes: { then_branch: yes, else_branch: no } })]
    const old = model({ opset: 9, inputs, outputs: [valueInfo('y', 'float32', [2, 3, 4])], nodes })
    for (const which of [0, 1]) {
      const feeds = { x: x234, which: { dtype: 'bool' as const, dims: [], data: Uint8Array.of(which) } }
      expect(largestDifference(await run(old, feeds), await run(upgradeOpset(old), feeds))).toBe(0)
    }
  })

  it('knows in a branch what the outer graph says of its tensors', () => {
    const branch = (name: string) => graph({ inputs: [], outputs: [valueInfo(name, 'float32', [])], nodes: [clip(name)] })
    const nodes = [node('If', ['c'], ['y'], { attributes: { then_branch: branch('t'), else_branch: branch('e') } })]
    const upgraded = upgradeOpset(looseModel({ ...nothing, constants: [tensorProto('c', 'bool', [], [1])] }, nodes, ['y']))
    expect(summarize(upgraded).operators, 'no CastLike: the bounds are float32 as x is').toEqual({ Clip: 2, If: 1 })
  })

  it('leaves the given model as it was and gives equal models for equal input', () => {
    const make = () => looseModel(nothing, [clip('a'), node('Softmax', ['a'], ['y'])], ['y'])
    const old = make()
    const upgraded = upgradeOpset(old)
    expect(old).toEqual(make())
    expect(upgradeOpset(make())).toEqual(upgraded)
  })

  it('emits a plain Softmax where the rank says that the axis is the last', () => {
    const shapes = [node('Flatten', ['x'], ['flat']), node('Softmax', ['flat'], ['y'])]
    expect(upgradeOpset(looseModel({ ...nothing, shapeless: true }, shapes, ['y'])).graph.node.map(({ opType }) => opType)).toEqual(['Flatten', 'Softmax'])
  })

  it('makes names that the model does not have', () => {
    const upgraded = upgradeOpset(looseModel(nothing, [clip('y'), node('Relu', ['y'], ['y_max'])], ['y', 'y_max']))
    expect(upgraded.graph.initializer.map(({ name }) => name)).toEqual(['y_max_1'])
    expect(() => rewrite(upgraded, [])).not.toThrow()
  })

  it('raises the IR version and takes initializers off the inputs', () => {
    const old = looseModel({ ...nothing, constants: [tensorProto('w', 'float32', [], [2])] }, [node('Mul', ['x', 'w'], ['y'])], ['y'])
    old.irVersion = 3n
    old.graph.input.push(valueInfo('w', 'float32', []))
    const upgraded = upgradeOpset(old)
    expect(upgraded.irVersion).toBe(10n)
    expect(upgraded.graph.input.map(({ name }) => name)).toEqual(['x'])
  })

  it('keeps a model that is new enough, and other domains', () => {
    const old = looseModel({ ...nothing, opset: 22 }, [node('FusedGemm', ['x', 'x'], ['y'], { domain: 'com.microsoft' })], ['y'])
    old.opsetImport.push({ ...old.opsetImport[0], domain: 'com.microsoft', version: 1n } as never)
    const upgraded = upgradeOpset(old)
    expect(upgraded.opsetImport.map(({ domain, version }) => [domain, version])).toEqual([
      ['', 22n],
      ['com.microsoft', 1n],
    ])
    expect(upgraded.graph.node).toEqual(old.graph.node)
  })

  it.each([
    ['an operator that ONNX does not have', 9, node('Mystery', ['x'], ['y'], { name: 'n1' }), /node "n1" \(Mystery\).*not an operator/],
    [
      'per-activation statistics',
      7,
      node('BatchNormalization', ['x', 'x', 'x', 'x', 'x'], ['y'], { name: 'n1', attributes: { spatial: 0 } }),
      /node "n1".*spatial/,
    ],
  ])('refuses %s, naming the node', (_, opset, bad, reason) => {
    expect(() => upgradeOpset(looseModel({ ...nothing, opset }, [bad], ['y']))).toThrow(reason)
  })

  it('refuses a used Dropout mask, but not an unused one', () => {
    const dropout = () => node('Dropout', ['x'], ['y', 'mask'])
    expect(() => upgradeOpset(looseModel(nothing, [dropout()], ['y', 'mask']))).toThrow(/output "mask"/)
    expect(upgradeOpset(looseModel(nothing, [dropout()], ['y'])).graph.node[0]?.output).toEqual(['y'])
  })

  it('refuses models older than version 7', () => {
    expect(() => upgradeOpset(looseModel({ ...nothing, opset: 6 }, [node('Relu', ['x'], ['y'])], ['y']))).toThrow(/version 6 of the ONNX operators, expected 7/)
  })
})
