// What the door needs from the rest of the gateway. app.ts passes it in; routes get it as one object.
import type { FastifyBaseLogger, FastifyInstance, RawServerDefault } from 'fastify'
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Config } from '../config.js'
import type { Job, JobQueue } from '../jobs/queue.js'
import type { ShardingWish } from '../jobs/shardings.js'
import type { TrainingWish } from '../jobs/trainings.js'
import type { ArtifactStore } from '../registry/artifact-store.js'
import type { Catalog } from '../registry/catalog.js'
import type { CaptureStatus } from '../registry/traffic-capture.js'
import type { ModelVersion, Variant } from '../registry/model.js'
import type { GatewayPort, RepositoryPort } from '../serving/ports.js'

/** Turns wishes into jobs; an artifact that exists already is answered at once. */
export interface Builds {
  compress(
    wish: { model: string; version?: string; recipe: unknown; budgetSeconds?: number },
    options: { idempotencyKey?: string },
  ): { job?: Job; variant?: Variant }
  profile(model: string, version?: string): Job
}

/** Turns wishes to train into jobs; jobs/trainings.ts is it. */
export interface TrainingsPort {
  start(wish: TrainingWish, options: { idempotencyKey?: string }): Promise<Job>
}

/** Turns wishes to shard into jobs; jobs/shardings.ts is it. */
export interface ShardingsPort {
  start(wish: ShardingWish, options: { idempotencyKey?: string }): Job
}

/** The sample of real inputs of each model. */
export interface CapturePort {
  status(model: ModelVersion): CaptureStatus
  clear(model: ModelVersion): Promise<void>
  forget(name: string, version?: string): Promise<void>
}

export interface Services {
  gateway: GatewayPort
  repository: RepositoryPort
  catalog: Catalog
  jobs: JobQueue
  store: ArtifactStore
  builds: Builds
  trainings: TrainingsPort
  shardings: ShardingsPort
  capture: CapturePort
  metrics: { contentType: string; text(): Promise<string> }
  config: Config
  logger: FastifyBaseLogger
  /** Of Flyweight. */
  version: string
}

/** A Fastify scope whose handlers get their types from the TypeBox schemas of the route. */
export type Scope = FastifyInstance<RawServerDefault, IncomingMessage, ServerResponse, FastifyBaseLogger, TypeBoxTypeProvider>
