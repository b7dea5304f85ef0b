// Pass `simplify`: the same float32 results from fewer nodes. Constants folded, factors and normalizations moved
// into weights, moves of values joined, duplicates merged. What the runtime fuses by itself is left to it.
import { Type } from 'typebox'
import type { NodeDecision } from '../../measurements.js'
import { allGraphs } from '../../onnx/graph.js'
import type { NodeProto } from '../../onnx/proto.js'
import { removeDeadNodes, rewrite } from '../../onnx/rewrite.js'
import { upgradeOpset } from '../../onnx/upgrade/opset.js'
import { prepare } from '../prepare.js'
import { canonicalRules } from '../quantize/canonical.js'
import { layoutRules } from '../simplify/layout-rules.js'
import { mergeDuplicates } from '../simplify/merge.js'
import { scaleRules } from '../simplify/scale-rules.js'
import { labelledNodes } from './decisions.js'
import type { Model, Pass } from './pass.js'

export const simplify: Pass = {
  name: 'simplify',
  description: 'the same float32 results from fewer nodes: constants, factors and normalizations folded, duplicates merged',
  parameters: Type.Object({}, { additionalProperties: false }),
  sizeOnly: () => false,
  async run(source, _step, { workDir }) {
    const model = await prepare(source, workDir)
    for (;;) {
      rewrite(model, [...layoutRules, ...canonicalRules, ...scaleRules])
      const { initializers, nodes } = mergeDuplicates(model)
      removeDeadNodes(model)
      if (initializers + nodes === 0) break
    }
    // Folded factors leave constants behind that the runtime can fold further.
    const simplified = await prepare(model, workDir)
    const decisions = compared(upgradeOpset(source), simplified)
    const count = (of: Model) => [...labelledNodes(of.graph)].filter(({ node }) => node.opType !== 'Constant').length
    return { model: simplified, decisions, summary: `${count(source)} nodes became ${count(simplified)}` }
  },
}

/** What became of each node of `before`, by its label in `after`. */
function compared(before: Model, after: Model): NodeDecision[] {
  const weights = new Set([...allGraphs(after.graph)].flatMap(({ graph }) => graph.initializer.map(({ name }) => name)))
  const remaining = new Map([...labelledNodes(after.graph)].map(({ node, label }) => [label, node]))
  return [...labelledNodes(before.graph)].map(({ node, label }) => {
    const result = remaining.get(label)
    const decision = { node: label, opType: node.opType, pass: 'simplify' }
    if (node.opType === 'Constant') return { ...decision, action: 'skipped', reason: 'a stored value' }
    if (result === undefined) return { ...decision, action: 'done', reason: 'folded into other nodes, or computed beforehand' }
    if (sameWork(node, result, weights)) return { ...decision, action: 'skipped', reason: 'nothing to fold it into, and nothing to fold into it' }
    return { ...decision, action: 'done', reason: 'it takes on what was folded into it' }
  })
}

/** Whether a node is what it was: the operator and its weights are the same. */
function sameWork(before: NodeProto, after: NodeProto, weights: ReadonlySet<string>): boolean {
  return before.opType === after.opType && after.input.every((name, position) => !weights.has(name) || before.input[position] === name)
}
