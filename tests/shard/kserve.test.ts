// KServe's resources of random plans: valid by the schemas of its CRDs, with names that it takes and a graph that knows its
// services; and YAML that says the same.
import fc from 'fast-check'
import { readFileSync } from 'node:fs'
import { Compile } from 'typebox/compile'
import { describe, expect, it } from 'vitest'
import { parse, parseAllDocuments } from 'yaml'
import { manifestYaml } from '#flyweight/shard/kserve-files.js'
import { kserveManifests, kserveName } from '#flyweight/shard/kserve.js'

const crds = parse(readFileSync('tests/fixtures/kserve-crds.yaml', 'utf8')) as Record<'InferenceService' | 'InferenceGraph', object>
const checks = { InferenceService: Compile(crds.InferenceService), InferenceGraph: Compile(crds.InferenceGraph) }
/** A DNS-1123 label that begins with a letter. */
const LABEL = /^(?=.{1,63}$)[a-z]([-a-z0-9]*[a-z0-9])?$/
const QUANTITY = /^\d+(Mi|Gi)?$/

interface Service {
  metadata: { name: string; namespace?: string }
  spec: {
    predictor: {
      containers: { env: { name: string; value: string }[]; args: string[]; resources: Record<'requests' | 'limits', Record<string, string>> }[]
    }
  }
}
interface Graph {
  metadata: { name: string; namespace?: string }
  spec: { nodes: Record<string, { steps: { name: string; serviceName: string; data: string; dependency: string }[] }> }
}

const bytes = fc.nat(2 ** 40)
const stage = fc.record({
  device: fc.constantFrom('cpu:0', 'cuda:3', 'tensorrt:1', 'webgpu:0', 'grpc://node:8081'),
  weightBytes: bytes,
  inBytes: fc.nat(2 ** 31),
  outBytes: fc.nat(2 ** 31),
})
const plans = fc.array(stage, { minLength: 1, maxLength: 12 })
const image = 'example.com/flyweight:1'
const storage = 's3://bucket/models/'

const made = (stages: Parameters<typeof kserveManifests>[0], name = 'digits') => {
  const manifests = kserveManifests(stages, { name, image, storage, namespace: 'vision' })
  return { manifests, services: manifests.slice(0, -1) as unknown as Service[], graph: manifests.at(-1) as unknown as Graph }
}

describe('kserveManifests', () => {
  it('fit the schemas of the CRDs, and are the same as YAML', () => {
    fc.assert(
      fc.property(plans, fc.string({ unit: 'grapheme', maxLength: 80 }), (stages, text) => {
        const { manifests, services, graph } = made(stages, kserveName(text))
        expect(manifests).toHaveLength(stages.length + 1)
        for (const manifest of manifests) expect(checks[manifest.kind].Errors(manifest)).toEqual([])
        for (const { metadata } of [...services, graph]) expect(metadata.name).toMatch(LABEL)
        expect(new Set(services.map(({ metadata }) => metadata.name)).size).toBe(stages.length)
        expect(graph.spec.nodes['root']!.steps.map(({ serviceName }) => serviceName)).toEqual(services.map(({ metadata }) => metadata.name))
        const documents = parseAllDocuments(manifestYaml(manifests)) as { toJS(): unknown }[]
        expect(documents.map((document) => document.toJS())).toEqual(manifests)
      }),
      { seed: 40, numRuns: 30 },
    )
  })

  it('ask for memory that holds the weights, and for a GPU where the plan has one', () => {
    fc.assert(
      fc.property(plans, (stages) => {
        for (const [index, { spec }] of made(stages).services.entries()) {
          const { resources, args } = spec.predictor.containers[0]!
          for (const quantity of Object.values({ ...resources.requests, ...resources.limits })) expect(quantity).toMatch(QUANTITY)
          expect(Number.parseInt(resources.requests['memory']!, 10) * 2 ** 20).toBeGreaterThan(2 * stages[index]!.weightBytes)
          const gpu = /^(cuda|tensorrt)/.exec(stages[index]!.device)?.[0]
          expect(resources.limits['nvidia.com/gpu']).toBe(gpu && '1')
          expect(args.includes('--device')).toBe(gpu !== undefined)
          if (gpu !== undefined) expect(args).toContain(`${gpu}:0`)
        }
      }),
      { seed: 41, numRuns: 50 },
    )
  })

  it('hand each answer on, stop at the first error, and load each stage from a folder of its own', () => {
    const cpu = { device: 'cpu:0', weightBytes: 1, inBytes: 1, outBytes: 1 }
    const { services, graph } = made([cpu, cpu])
    expect(graph.spec.nodes['root']!.steps.map(({ data, dependency }) => [data, dependency])).toEqual([
      ['$request', 'Hard'],
      ['$response', 'Hard'],
    ])
    expect(services[1]!.spec.predictor.containers[0]!.env).toEqual([
      { name: 'STORAGE_URI', value: 's3://bucket/models/digits-1' },
      { name: 'PROTOCOL', value: 'v2' },
    ])
  })

  it.each(['', 'Digits', '0digits', 'digits-', 'a.b', 'a'.repeat(41)])('refuse the name "%s"', (name) => {
    expect(() => kserveManifests([], { name, image, storage })).toThrow(expect.objectContaining({ code: 'invalid_input' }))
  })
})
