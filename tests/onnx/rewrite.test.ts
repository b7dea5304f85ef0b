import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { graph, model, node, tensorProto, valueInfo } from '#flyweight/onnx/builder.js'
import type { NodeProto } from '#flyweight/onnx/proto.js'
import { removeDeadNodes, rewrite, rule } from '#flyweight/onnx/rewrite.js'
import { largestDifference, noise, run } from './running.js'

const of = (nodes: NodeProto[], outputs = ['y'], initializers = [tensorProto('two', 'float32', [], [2])]) =>
  model({ inputs: [valueInfo('x', 'float32', ['n'])], outputs: outputs.map((name) => valueInfo(name, 'float32', ['n'])), nodes, initializers })
const types = (nodes: readonly NodeProto[]) => nodes.map(({ opType }) => opType)

/** Neg(Neg(x)) → x, where nothing else reads the inner one. */
const doubleNegation = rule<NodeProto>({
  name: 'double negation',
  opType: 'Neg',
  match: (outer, index) => {
    const inner = index.producer(outer.input[0] as string)
    return inner?.opType === 'Neg' && index.consumers(inner.output[0] as string).length === 1 && !index.isOutput(inner.output[0] as string) ? inner : undefined
  },
  apply: (inner, { node: outer }) => ({ nodes: [node('Identity', [inner.input[0] as string], [outer.output[0] as string])], remove: [inner, outer] }),
})

/** x + x → x · 2, with a new initializer. */
const doubling = rule<string>({
  name: 'doubling',
  opType: 'Add',
  match: ({ input: [a, b] }) => (a === b ? a : undefined),
  apply: (x, { node: { output }, uniqueName }) => {
    const factor = uniqueName('two')
    return { nodes: [node('Mul', [x, factor], output)], initializers: [tensorProto(factor, 'float32', [], [2])] }
  },
})

describe('rewrite', () => {
  it('applies rules until none matches and counts them', async () => {
    const subject = of([
      ...['a', 'b', 'c', 'd', 'e'].map((name, i) => node('Neg', [['x', 'a', 'b', 'c', 'd'][i] as string], [name])),
      node('Add', ['e', 'e'], ['y']),
    ])
    const before = await run(subject, { x: noise([5]) })
    expect(rewrite(subject, [doubleNegation, doubling])).toEqual({ 'double negation': 2, doubling: 1 })
    expect(types(subject.graph.node).sort()).toEqual(['Identity', 'Identity', 'Mul', 'Neg'])
    expect(largestDifference(before, await run(subject, { x: noise([5]) }))).toBe(0)
  })

  it('gives new initializers names that are free, and drops those nothing reads any more', () => {
    const subject = of([node('Add', ['x', 'x'], ['a']), node('Mul', ['a', 'two'], ['y'])])
    rewrite(subject, [doubling])
    expect(subject.graph.initializer.map(({ name }) => name)).toEqual(['two', 'two_1'])
    const unread = of([node('Add', ['x', 'x'], ['y'])])
    rewrite(unread, [doubling])
    expect(unread.graph.initializer.map(({ name }) => name)).toEqual(['two_1'])
  })

  it('gives new nodes names that the runtime accepts', async () => {
    const subject = of([node('Add', ['x', 'x'], ['a'], { name: 'y' }), node('Add', ['a', 'a'], ['y'], { name: 'other' })])
    rewrite(subject, [doubling])
    expect(new Set(subject.graph.node.map(({ name }) => name)).size).toBe(2)
    await run(subject, { x: noise([2]) })
  })

  it('reaches into subgraphs, which see outer constants', async () => {
    const halving = rule<true>({
      name: 'mul by two',
      opType: 'Mul',
      match: ({ input }, index) => (Number(index.constant(input[1] as string)?.data[0]) === 2 ? true : undefined),
      apply: (_, { node: { input, output } }) => ({ nodes: [node('Sum', [input[0] as string, input[0] as string], output)] }),
    })
    const branch = (name: string) => graph({ name, inputs: [], outputs: [valueInfo(name, 'float32', ['n'])], nodes: [node('Mul', ['x', 'two'], [name])] })
    const nodes = [node('If', ['yes'], ['y'], { attributes: { then_branch: branch('t'), else_branch: branch('e') } })]
    const subject = of(nodes, ['y'], [tensorProto('two', 'float32', [], [2]), tensorProto('yes', 'bool', [], [1])])
    const before = await run(subject, { x: noise([3]) })
    expect(rewrite(subject, [halving])).toEqual({ 'mul by two': 2 })
    expect(subject.graph.initializer.map(({ name }) => name)).toEqual(['yes'])
    expect(largestDifference(before, await run(subject, { x: noise([3]) }))).toBe(0)
  })

  it('keeps producers before consumers wherever the new nodes came from', async () => {
    // The replacement of the first node reads a tensor that is written last.
    const swap = rule<true>({
      name: 'swap',
      opType: 'Relu',
      match: () => true,
      apply: (_, { node: { output } }) => ({ nodes: [node('Add', ['x', 'late'], output)] }),
    })
    const subject = of([node('Relu', ['x'], ['early']), node('Exp', ['x'], ['late']), node('Add', ['early', 'late'], ['y'])])
    rewrite(subject, [swap])
    expect(types(subject.graph.node)).toEqual(['Exp', 'Add', 'Add'])
    await run(subject, { x: noise([2]) })
  })

  it('takes no match that an earlier one of the same pass made stale', async () => {
    const borrow = rule<true>({
      name: 'borrow',
      opType: 'Sigmoid',
      match: () => true,
      apply: (_, { node: { output } }) => ({ nodes: [node('Neg', ['t'], output)] }),
    })
    const fuse = rule<NodeProto>({
      name: 'fuse',
      opType: 'Exp',
      match: ({ input: [t = ''] }, index) => (index.consumers(t).length === 1 ? index.producer(t) : undefined),
      apply: (relu, { node: exp }) => ({ nodes: [node('Elu', relu.input, exp.output)], remove: [relu, exp] }),
    })
    const subject = of([node('Relu', ['x'], ['t']), node('Sigmoid', ['x'], ['s']), node('Exp', ['t'], ['e']), node('Add', ['s', 'e'], ['y'])])
    expect(rewrite(subject, [borrow, fuse])).toEqual({ borrow: 1, fuse: 0 })
    await run(subject, { x: noise([2]) })
  })

  it('looks again where nodes that died had hidden a match', () => {
    const detour = rule<true>({
      name: 'detour',
      opType: 'Log',
      match: () => true,
      apply: (_, { node: { output } }) => ({ nodes: [node('Exp', ['x'], output)] }),
    })
    const nodes = [node('Neg', ['x'], ['a']), node('Neg', ['a'], ['b']), node('Abs', ['a'], ['c']), node('Log', ['c'], ['d']), node('Add', ['b', 'd'], ['y'])]
    const subject = of(nodes)
    expect(rewrite(subject, [doubleNegation, detour])).toEqual({ 'double negation': 1, detour: 1 })
    expect(types(subject.graph.node)).toEqual(['Identity', 'Exp', 'Add'])
  })

  it('says so when rules do not settle', () => {
    const again = rule<true>({
      name: 'again',
      opType: 'Relu',
      match: () => true,
      apply: (_, { node: { input, output } }) => ({ nodes: [node('Relu', input, output)] }),
    })
    expect(() => rewrite(of([node('Relu', ['x'], ['y'])]), [again])).toThrow(/do not settle: again/)
  })

  it('says so when a rule leaves a name dangling or makes a cycle', () => {
    const broken = (make: (one: NodeProto) => NodeProto[]) =>
      rule<true>({ name: 'broken', opType: 'Relu', match: () => true, apply: (_, { node: one }) => ({ nodes: make(one) }) })
    const subject = () => of([node('Relu', ['x'], ['a']), node('Neg', ['a'], ['y'])])
    expect(() => rewrite(subject(), [broken(() => [])])).toThrow(/reads "a", which nothing writes/)
    expect(() => rewrite(subject(), [broken(({ output }) => [node('Add', ['x', 'y'], output)])])).toThrow(/cycle/)
    expect(() => rewrite(of([node('Relu', ['x'], ['y'])]), [broken(() => [])])).toThrow(/graph output "y" is written by nothing/)
  })

  it('never changes what a random graph computes', async () => {
    const steps = fc.array(fc.tuple(fc.constantFrom('Neg', 'Add', 'Abs'), fc.nat(), fc.nat()), { minLength: 1, maxLength: 25 })
    const graphs = steps.map((list) => {
      const names = ['x', ...list.map((_, i) => `t${i}`)]
      const nodes = () =>
        list.map(([opType, a, b], i) => {
          const inputs = [names[a % (i + 1)] as string, names[b % (i + 1)] as string]
          return node(opType, opType === 'Add' ? inputs : inputs.slice(1), [`t${i}`])
        })
      return () => of(nodes(), [`t${list.length - 1}`])
    })
    await fc.assert(
      fc.asyncProperty(graphs, async (make) => {
        const subject = make()
        rewrite(subject, [doubleNegation, doubling])
        const [before, after] = [await run(make(), { x: noise([3]) }), await run(subject, { x: noise([3]) })]
        expect(largestDifference(before, after)).toBe(0)
        const again = make()
        rewrite(again, [doubleNegation, doubling])
        expect(again).toEqual(subject)
        expect(rewrite(subject, [doubleNegation, doubling])).toEqual({ 'double negation': 0, doubling: 0 })
      }),
      { numRuns: 60, seed: 4 },
    )
  })
})

describe('removeDeadNodes', () => {
  it('drops chains nothing reads, their initializers, inputs that belong to those, and value infos', () => {
    const subject = of([node('Relu', ['x'], ['y']), node('Mul', ['x', 'two'], ['dead1']), node('Neg', ['dead1'], ['dead2'])])
    subject.graph.input.push(valueInfo('two', 'float32', []))
    subject.graph.valueInfo.push(valueInfo('dead1', 'float32', ['n']))
    expect(removeDeadNodes(subject)).toBe(2)
    expect(types(subject.graph.node)).toEqual(['Relu'])
    expect(subject.graph.initializer).toEqual([])
    expect(subject.graph.input.map(({ name }) => name)).toEqual(['x'])
    expect(subject.graph.valueInfo).toEqual([])
  })

  it('keeps what only a subgraph captures', () => {
    const branch = (name: string) => graph({ inputs: [], outputs: [valueInfo(name, 'float32', ['n'])], nodes: [node('Neg', ['outer'], [name])] })
    const nodes = [node('Relu', ['x'], ['outer']), node('If', ['c'], ['y'], { attributes: { then_branch: branch('t'), else_branch: branch('e') } })]
    const subject = of(nodes, ['y'], [tensorProto('c', 'bool', [], [1])])
    expect(removeDeadNodes(subject)).toBe(0)
  })
})
