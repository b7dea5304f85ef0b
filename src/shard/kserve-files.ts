// Stages as KServe wants them: a folder a service for the model storage, and the manifests in one YAML file.
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { stringify } from 'yaml'
import { loadModel, saveModel } from '../onnx/load.js'
import { chainStages } from './chain.js'
import { kserveManifests, serviceNames, type KserveOptions, type Manifest } from './kserve.js'
import type { Sharded } from './shard.js'

/** One document a manifest, services first. */
export function manifestYaml(manifests: readonly Manifest[]): string {
  return manifests.map((manifest) => stringify(manifest)).join('---\n')
}

/**
 * Writes `<folder>/kserve.yaml` and `<folder>/storage/<service>/<service>/1/model.onnx` for each stage of the plan, whose
 * files are in `folder`. What `storage/` has is to be copied to the storage URI. Holds the whole model in memory.
 * @param file the model that was cut
 * @throws FlyweightError `invalid_input` for a name, `invalid_plan` for what cannot pass between services
 */
export async function writeKserve(file: string, folder: string, plan: Sharded, options: KserveOptions): Promise<Manifest[]> {
  const manifests = kserveManifests(plan.stages, options)
  const { graph } = await loadModel(file)
  const stored = new Set([...graph.initializer.map(({ name }) => name), ...graph.sparseInitializer.map(({ values }) => values?.name ?? '')])
  const stages = await Promise.all(
    plan.stages.map(async ({ file: name, inputs, outputs }) => ({ model: await loadModel(join(folder, name)), inputs, outputs })),
  )
  const chain = chainStages(stages, { inputs: graph.input.filter(({ name }) => !stored.has(name)), outputs: graph.output.map(({ name }) => name) })
  const storage = join(folder, 'storage')
  await rm(storage, { recursive: true, force: true })
  for (const [index, name] of serviceNames(options.name, chain.length).entries()) {
    const version = join(storage, name, name, '1')
    await mkdir(version, { recursive: true })
    await saveModel(chain[index]!.model, join(version, 'model.onnx'))
  }
  await writeFile(join(folder, 'kserve.yaml'), manifestYaml(manifests))
  return manifests
}
