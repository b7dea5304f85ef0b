// Brings a model from an older version of ai.onnx (7 and up) to a newer one, one version at a time, so that
// passes know a single dialect. Every node must be known not to change (changes.ts) or have a rule.
import { FlyweightError } from '../../errors.js'
import { subgraphs } from '../attributes.js'
import { GraphIndex } from '../graph.js'
import { nodeNames, tensorNames, type NameNodes } from '../names.js'
import { create, OperatorSetIdProtoSchema, structuralCopy, type GraphProto, type ModelProto, type NodeProto } from '../proto.js'
import { opsetOf } from '../summary.js'
import { attributesToInputs } from './attributes-to-inputs.js'
import { compatibleChanges, unchangedOperators } from './changes.js'
import { Facts } from './facts.js'
import { resampling } from './resampling.js'
import { contextFor, failAt, type UpgradeRules } from './rule.js'
import { scan } from './scan.js'
import { semantics } from './semantics.js'

const OLDEST = 7
const NEWEST = 21
/** The IR version that opset 21 belongs to; from 4 on, initializers need not be inputs. */
const IR_VERSION = 10n

/** All rules, by `<operator>-<version>`. */
export const upgradeRules: UpgradeRules = { ...attributesToInputs, ...semantics, ...resampling, ...scan }

const knownOperators = new Set([...unchangedOperators, ...[...compatibleChanges, ...Object.keys(upgradeRules)].map((change) => change.split('-')[0])])

/**
 * The model at ai.onnx version `target` or newer, meaning the same; the given model is left as it was, weights
 * are shared with it. Initializers are no longer inputs. A model that is new enough keeps its version.
 * @throws FlyweightError `invalid_model` naming the node and operator that cannot be upgraded.
 */
export function upgradeOpset(model: ModelProto & { graph: GraphProto }, target = NEWEST): ModelProto & { graph: GraphProto } {
  const from = opsetOf(model)
  const upgraded = structuralCopy(model)
  if (from < OLDEST) {
    throw new FlyweightError('invalid_model', `the model uses version ${from} of the ONNX operators, expected ${OLDEST} or newer: export it again`)
  }
  if (from < target && model.functions.length > 0) {
    throw new FlyweightError('invalid_model', `the model defines its own function "${model.functions[0]?.name}": inline functions when exporting`)
  }
  if (target > NEWEST) throw new RangeError(`upgrade to version ${target}: rules end at ${NEWEST}`)
  const scope = { uniqueName: tensorNames(upgraded), nameNodes: nodeNames(upgraded) }
  for (let version = from + 1; version <= target; version++) upgradeGraph(upgraded.graph, version, scope)
  const version = BigInt(Math.max(from, target))
  upgraded.opsetImport = [
    create(OperatorSetIdProtoSchema, { domain: '', version }),
    ...upgraded.opsetImport.filter(({ domain }) => domain !== '' && domain !== 'ai.onnx'),
  ]
  if (upgraded.irVersion < IR_VERSION) upgraded.irVersion = IR_VERSION
  const initializers = new Set(upgraded.graph.initializer.map(({ name }) => name))
  upgraded.graph.input = upgraded.graph.input.filter(({ name }) => !initializers.has(name))
  return upgraded
}

interface Scope {
  uniqueName: (base: string) => string
  nameNodes: NameNodes
  index?: GraphIndex
  facts?: Facts
}

function upgradeGraph(graph: GraphProto, version: number, outer: Scope): void {
  const scope = { ...outer, index: new GraphIndex(graph, outer.index), facts: new Facts(graph, outer.facts) }
  graph.node = graph.node.flatMap((node) => {
    for (const inner of subgraphs(node)) upgradeGraph(inner, version, scope)
    if (node.domain !== '' && node.domain !== 'ai.onnx') return node
    return upgradeNode(node, version, { graph, ...scope })
  })
}

function upgradeNode(node: NodeProto, version: number, scope: Required<Scope> & { graph: GraphProto }): NodeProto | readonly NodeProto[] {
  const rule = upgradeRules[`${node.opType}-${version}`]
  if (rule) {
    const result = rule(node, contextFor(node, scope)) ?? [node]
    const added = result.filter((one) => one !== node)
    scope.nameNodes(added.length === result.length ? [node] : [], added)
    return result
  }
  if (!knownOperators.has(node.opType)) failAt(node, 'it is not an operator of ONNX version 7 to 21')
  return node
}
