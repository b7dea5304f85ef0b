// What the doors, http and grpc, need of the request path and of the models: one core behind both.
import type { Manifest, Sla } from '../registry/manifest.js'
import type { ModelStatus, ModelVersion } from '../registry/model.js'
import type { CacheSnapshot, InferRequest, InferResult, ModelStats, RouteExplanation } from './request.js'

/** The request path behind the doors; serving/gateway.ts is it. */
export interface GatewayPort {
  infer(request: InferRequest): Promise<InferResult>
  explain(question: { model: string; version?: string; sla: Sla; variant?: string; rows?: number }): RouteExplanation
  stats(model?: string, version?: string): ModelStats[]
  cache(): CacheSnapshot
  /** Evicts one variant by id, or all that nothing holds; returns the number of evicted copies. */
  evict(variantId?: string): Promise<number>
  /** False while draining, or before the first model can be served. */
  ready(): boolean
}

/** The models behind the doors; registry/repository.ts is it. */
export interface RepositoryPort {
  /** @throws FlyweightError `model_not_found`, `model_not_ready` */
  resolve(name: string, version?: string): ModelVersion
  versions(name: string): readonly ModelVersion[]
  list(): ModelStatus[]
  load(name: string): Promise<void>
  unload(name: string): Promise<void>
  add(upload: { name: string; version?: string; modelFile: string; externalFiles?: readonly string[]; manifest?: Manifest }): Promise<ModelVersion>
  remove(name: string, version?: string): Promise<void>
}
