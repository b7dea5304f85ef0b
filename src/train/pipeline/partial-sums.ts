// Gradients of a value that several nodes of another stage read: added up there, so that one tensor is handed over.
import { node as makeNode } from '../../onnx/builder.js'
import type { NodeProto } from '../../onnx/proto.js'
import { writtenBy } from './assign-stages.js'
import type { PlacedStage } from './placed-step.js'

export interface SumOptions {
  /** By gradient, what it is the gradient of; partial sums are added. */
  gradientOf: Map<string, string>
  unique: (base: string) => string
}

/** The stages with such sums divided; sums of gradients alone, which are all of one shape. */
export function sumWhereMade(stages: readonly PlacedStage[], { gradientOf, unique }: SumOptions): PlacedStage[] {
  const madeBy = new Map(stages.flatMap(({ nodes }, stage) => nodes.backward.flatMap((node) => writtenBy(node).map((name) => [name, stage] as const))))
  const added = stages.map((): NodeProto[] => [])
  const divided = stages.map(({ nodes }, stage) =>
    nodes.backward.map((node) => {
      const sum = node.output[0] as string
      const of = gradientOf.get(sum)
      if (node.opType !== 'Sum' || of === undefined) return node
      const makers = [...new Set(node.input.map((name) => madeBy.get(name)))]
      const inputs = makers.flatMap((maker) => {
        const names = node.input.filter((name) => madeBy.get(name) === maker)
        if (maker === undefined || maker === stage || names.length === 1) return names
        const part = unique(`${sum}::part`)
        added[maker]?.push(makeNode('Sum', names, [part]))
        gradientOf.set(part, of)
        return [part]
      })
      return makeNode('Sum', inputs, [sum], { name: node.name })
    }),
  )
  return stages.map((stage, index) => ({ ...stage, nodes: { ...stage.nodes, backward: [...(divided[index] ?? []), ...(added[index] ?? [])] } }))
}
