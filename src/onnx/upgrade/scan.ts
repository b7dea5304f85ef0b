// Scan had a batch axis in version 8 and has none since 9: the same loop then runs inside a Scan over the batch.
import { attribute, intAttribute, intsAttribute } from '../attributes.js'
import { graph as makeGraph, node as makeNode } from '../builder.js'
import { create, TypeProto_TensorSchema, TypeProtoSchema, ValueInfoProtoSchema, type ValueInfoProto } from '../proto.js'
import type { UpgradeRules } from './rule.js'

export const scan: UpgradeRules = {
  'Scan-9': (node, context) => {
    const body = attribute(node, 'body')?.g ?? context.fail('it has no body')
    const [lengths = '', ...inputs] = node.input
    if (lengths !== '') context.fail('it has sequence_lens, which ONNX dropped in version 9')
    const directions = intsAttribute(node, 'directions')
    const rows = inputs.map((_, i) => context.name(`row_${i}`))
    const results = node.output.map((_, i) => context.name(`row_result_${i}`))
    const perRow = makeNode('Scan', rows, results, {
      attributes: {
        body,
        num_scan_inputs: intAttribute(node, 'num_scan_inputs') ?? context.fail('it has no attribute num_scan_inputs'),
        ...(directions && { scan_input_directions: directions }),
      },
    })
    const overBatch = makeGraph({
      name: context.name('batch'),
      inputs: rows.map((name, i) => typed(name, body.input[i])),
      outputs: results.map((name, i) => typed(name, body.output[i])),
      nodes: [perRow],
    })
    return [makeNode('Scan', inputs, node.output, { name: node.name, attributes: { body: overBatch, num_scan_inputs: inputs.length } })]
  },
}

/** A tensor of the element type of `like` and of any shape. */
function typed(name: string, like: ValueInfoProto | undefined): ValueInfoProto {
  const type = like?.type?.value
  if (type?.case !== 'tensorType') return create(ValueInfoProtoSchema, { name })
  const tensorType = create(TypeProto_TensorSchema, { elemType: type.value.elemType })
  return create(ValueInfoProtoSchema, { name, type: create(TypeProtoSchema, { value: { case: 'tensorType', value: tensorType } }) })
}
