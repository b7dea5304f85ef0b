// The calls about models: readiness, metadata, configuration, statistics, and Triton's model repository.
// What they say is v2/metadata.ts's and the repository's; here is how it travels.
import { Type } from 'typebox'
import { FlyweightError } from '../errors.js'
import type { ModelStatus } from '../registry/model.js'
import type { RepositoryPort } from '../serving/ports.js'
import { checkOf } from '../wire/check.js'
import type { ModelTarget, RepositoryRequest } from './messages.js'
import { plainParameters } from './parameters.js'

const strict = { additionalProperties: false } as const
const checkLoad = checkOf(Type.Object({}, strict), '/parameters')
const checkUnload = checkOf(
  Type.Object({ unload_dependents: Type.Optional(Type.Boolean({ description: 'No model here has dependents' })) }, strict),
  '/parameters',
)

/** False for a model that is not there, as Triton says it. */
export function modelReady(repository: RepositoryPort, { name, version }: ModelTarget): boolean {
  try {
    repository.resolve(name, version || undefined)
    return true
  } catch (error) {
    if (error instanceof FlyweightError && (error.code === 'model_not_found' || error.code === 'model_not_ready')) return false
    throw error
  }
}

/** Every model version and its state. @throws FlyweightError `not_found` for another repository */
export function repositoryIndex(repository: RepositoryPort, { repository_name, ready }: { repository_name: string; ready: boolean }): ModelStatus[] {
  checkRepository(repository_name)
  return repository.list().filter(({ state }) => !ready || state === 'READY')
}

/** @throws FlyweightError `model_not_found`, `invalid_model`, `unknown_field`, `not_found` for another repository */
export async function loadModel(repository: RepositoryPort, { repository_name, model_name, parameters }: RepositoryRequest): Promise<void> {
  checkRepository(repository_name)
  checkLoad(plainParameters(parameters))
  await repository.load(model_name)
}

/** @throws FlyweightError `model_not_found`, `unknown_field`, `not_found` for another repository */
export async function unloadModel(repository: RepositoryPort, { repository_name, model_name, parameters }: RepositoryRequest): Promise<void> {
  checkRepository(repository_name)
  checkUnload(plainParameters(parameters))
  await repository.unload(model_name)
}

function checkRepository(name: string): void {
  if (name !== '') throw new FlyweightError('not_found', `repository_name is ${JSON.stringify(name)}, expected none: there is one repository`)
}
