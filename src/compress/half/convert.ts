// The conversion of a model to half precision, node by node, graphs of If, Loop and Scan included. What operators
// allow is in operators.ts; which nodes their values keep out is found by search.ts.
import type { NodeDecision } from '../../measurements.js'
import { setAttribute } from '../../onnx/attributes.js'
import { tensorNames } from '../../onnx/names.js'
import type { NodeProto, ValueInfoProto } from '../../onnx/proto.js'
import { labelOf, ownedGraphs } from '../passes/decisions.js'
import type { Model } from '../passes/pass.js'
import type { GraphTypes } from '../tensor-types.js'
import { Forms } from './forms.js'
import { castTarget, FLOAT, HALF, integerArithmetic, isRecurrent, isSteering, operatorRefusal } from './operators.js'

interface HalveOptions {
  /** Of every graph, by what the labels of its nodes begin with. */
  types: ReadonlyMap<string, GraphTypes>
  /** Labels of nodes to leave in float32, each with the reason. One with subgraphs keeps what is in them. */
  keep: ReadonlyMap<string, string>
  rounded?: boolean
  /** What the float inputs and outputs of the model become. */
  io?: 'float32' | 'float16'
}

/**
 * Converts a prepared model in place. A tensor keeps its name for its float32 form and gets `::half` for the
 * other; Casts are made where a form is wanted that nobody writes, and those of the source that lead from one form to the
 * other go. Float tensors enter and leave subgraphs in float32, except that an If hands out halves where all its
 * branches write them. `rounded` makes of it the same arithmetic for processors without half precision: every node computes in
 * float32 between Casts that the model itself holds, which the runtime, unlike those that it inserts, does not take out again.
 */
export function halve(model: Model, { types, keep, rounded = false, io = 'float32' }: HalveOptions): NodeDecision[] {
  const { graph } = model
  const decisions: NodeDecision[] = []
  const unique = tensorNames(model)
  const outermost = new Forms(graph, { types: types.get('') ?? new Map(), unique })
  const halfOutputs = io === 'float16' ? halfInterface(outermost) : new Set<string>()
  const walk = (forms: Forms, prefix: string, frozen: string | undefined): void => {
    const integer = integerArithmetic(forms.graph, forms.index)
    for (const node of forms.graph.node) {
      const label = prefix + labelOf(node)
      const decide = (action: NodeDecision['action'], reason: string) => decisions.push({ node: label, opType: node.opType, pass: 'fp16', action, reason })
      const kept = frozen ?? keep.get(label)
      const inner = [...ownedGraphs(node, prefix)]
      if (inner.length > 0) {
        decide('skipped', kept ?? (isSteering(node) ? 'it only steers: the nodes of its subgraphs have decisions of their own' : 'its subgraphs stay float32'))
        const frozenInside = kept === undefined ? (isSteering(node) ? undefined : `it is in a subgraph of ${node.opType}`) : `it is inside "${label}": ${kept}`
        const insides = inner.map(({ graph: body, prefix: within }) => {
          const known = types.get(within)
          const inside = new Forms(body, { types: known ?? new Map(), unique, outer: forms })
          walk(inside, within, frozenInside ?? (known === undefined ? 'the types of tensors in its subgraph are not known' : undefined))
          return inside
        })
        addOwner(node, forms, insides)
        continue
      }
      if (kept === undefined && joinsForms(node, forms)) {
        decide('done', 'it leads from one precision to the other: its readers take whichever they want')
        continue
      }
      if (kept === undefined && !integer.has(node) && isRecurrent(node) && node.input.slice(1, 4).some((name) => isFloatConstant(name, forms))) {
        decide('done', 'computes in float32 from weights stored in half precision')
        node.input = node.input.map((name, position) =>
          position >= 1 && position <= 3 && isFloatConstant(name, forms) ? forms.rounded(name) : forms.wanted(name, 'float'),
        )
        forms.nodes.push(node)
        continue
      }
      const refusal = kept ?? (integer.has(node) ? 'it is part of int8 arithmetic, which has float32 scales' : refusalOf(node, forms))
      decide(refusal === undefined ? 'done' : 'skipped', refusal ?? 'computes in half precision')
      addNode(node, forms, refusal !== undefined ? 'float' : rounded ? 'rounded' : 'half')
    }
    forms.graph.node = forms.nodes
    forms.graph.valueInfo = forms.graph.valueInfo.filter(({ name }) => !forms.isHalf(name))
  }
  walk(outermost, '', undefined)
  for (const { name } of graph.output) outermost.output(name, halfOutputs.has(name) ? 'half' : 'float')
  return decisions
}

function addNode(node: NodeProto, forms: Forms, as: 'float' | 'rounded' | 'half'): void {
  node.input = node.input.map((tensor) => (as === 'rounded' ? forms.rounded(tensor) : forms.wanted(tensor, as)))
  if (as === 'rounded') {
    forms.addRounding(node)
    return
  }
  if (as === 'half' && castTarget(node) === FLOAT) setAttribute(node, 'to', HALF)
  node.output = node.output.map((tensor) => {
    if (!forms.isFloat(tensor)) return tensor
    if (as === 'half') forms.written(tensor)
    return forms.name(tensor, as)
  })
  forms.nodes.push(node)
}

/** Adds a node with subgraphs after these were converted, and settles in which form tensors leave them. */
function addOwner(node: NodeProto, forms: Forms, insides: readonly Forms[]): void {
  node.input = node.input.map((tensor) => forms.wanted(tensor, 'float'))
  node.output = node.output.map((tensor, position) => {
    const isHalf = node.opType === 'If' && forms.isFloat(tensor) && insides.every((inside) => inside.isHalf(inside.graph.output[position]?.name ?? ''))
    if (!isHalf) return forms.isFloat(tensor) ? forms.name(tensor, 'float') : tensor
    for (const inside of insides) {
      const output = inside.graph.output[position]!
      output.name = inside.name(output.name, 'half')
      becomeHalf(output)
    }
    forms.written(tensor)
    return forms.name(tensor, 'half')
  })
  for (const inside of insides) for (const { name } of inside.graph.output) inside.output(name, 'float')
  forms.nodes.push(node)
}

/** Takes a Cast between float32 and half out, by telling its readers where to find the value. False for other nodes. */
function joinsForms(node: NodeProto, forms: Forms): boolean {
  const [input = '', output = ''] = [node.input[0], node.output[0]]
  const [from, to] = [forms.typeOf(input), castTarget(node)]
  if (from === 'float16' && to === FLOAT) forms.written(output, forms.wanted(input, 'half'))
  else if (from === 'float32' && to === HALF) forms.alias(output, forms.wanted(input, 'half'))
  else return false
  return true
}

function refusalOf(node: NodeProto, forms: Forms): string | undefined {
  const refusal = operatorRefusal(node)
  if (refusal !== undefined) return refusal
  const target = castTarget(node)
  if (target !== undefined) return target === FLOAT ? undefined : 'it converts to another type'
  return [...node.input, ...node.output].some((tensor) => forms.isFloat(tensor)) ? undefined : 'it handles no float values'
}

function isFloatConstant(tensor: string, forms: Forms): boolean {
  return forms.isFloat(tensor) && forms.isConstant(tensor)
}

/** Computed float inputs and outputs of the model become half, under the names they have; returns their names. */
function halfInterface(forms: Forms): Set<string> {
  const { input, output } = forms.graph
  const computed = ({ name }: ValueInfoProto) => forms.isFloat(name) && !forms.isConstant(name)
  for (const info of [...input, ...output].filter(computed)) {
    forms.namedHalf(info.name)
    becomeHalf(info)
  }
  for (const { name } of input.filter(computed)) forms.written(name)
  return new Set(output.filter(computed).map(({ name }) => name))
}

function becomeHalf(info: ValueInfoProto): void {
  if (info.type?.value.case === 'tensorType') info.type.value.value.elemType = HALF
}
