// The gRPC door: `inference.GRPCInferenceService`, with the limits of the HTTP server. What it may use of the
// rest is the same as the HTTP door's; every error leaves through status.ts.
import { Server, ServerCredentials, type UntypedServiceImplementation } from '@grpc/grpc-js'
import type { Config } from '../config.js'
import type { Catalog } from '../registry/catalog.js'
import type { GatewayPort, RepositoryPort } from '../serving/ports.js'
import { modelConfig, modelMetadata, serverMetadata, statistics } from '../v2/metadata.js'
import { bidirectional, unary, type CallLog, type Handler } from './call.js'
import { modelInfer, streamError, streamInfer } from './infer.js'
import type { InferRequestMessage, ModelTarget, RepositoryRequest } from './messages.js'
import { loadModel, modelReady, repositoryIndex, unloadModel } from './models.js'
import { inferenceService } from './proto.js'
import type { StageNode } from './stage-node.js'
import { digestIn, FILE_PREFIX } from './stage-upload.js'

export interface GrpcServices {
  gateway: GatewayPort
  repository: RepositoryPort
  catalog: Catalog
  config: Config
  logger: CallLog
  /** Holds stages of other gateways. */
  stages: StageNode
  /** Of Flyweight. */
  version: string
}

export interface GrpcServer {
  /** Starts listening; resolves to the port. */
  listen(host: string, port: number): Promise<number>
  /** Refuses new calls and waits a moment for those that go on. */
  close(): Promise<void>
}

/** Streams that nobody ends must not keep the process. */
const CLOSE_TIMEOUT_MS = 1000

export function buildGrpcServer(services: GrpcServices): GrpcServer {
  const server = new Server({
    'grpc.max_receive_message_length': services.config.server.maxBodyBytes,
    'grpc.max_send_message_length': -1,
  })
  server.addService(inferenceService, implementation(services))
  return {
    listen: (host, port) =>
      new Promise((resolve, reject) => {
        const address = `${host.includes(':') ? `[${host}]` : host}:${port}`
        server.bindAsync(address, ServerCredentials.createInsecure(), (error, bound) => (error === null ? resolve(bound) : reject(error)))
      }),
    close: async () => {
      let timer: NodeJS.Timeout | undefined
      const late = new Promise<void>((resolve) => (timer = setTimeout(resolve, CLOSE_TIMEOUT_MS)))
      await Promise.race([new Promise<void>((resolve) => server.tryShutdown(() => resolve())), late])
      clearTimeout(timer)
      server.forceShutdown()
      await services.stages.close()
    },
  }
}

function implementation(services: GrpcServices): UntypedServiceImplementation {
  const { gateway, repository, config, logger, stages, version } = services
  const call = <Request, Response>(handler: Handler<Request, Response>) => unary(handler, logger)
  const find = ({ name, version: wanted }: ModelTarget) => repository.resolve(name, wanted || undefined)
  return {
    ServerLive: call((_, context) => {
      stages.greet(context)
      return { live: true }
    }),
    ServerReady: call(() => ({ ready: gateway.ready() })),
    ModelReady: call((target: ModelTarget) => ({ ready: isStage(target.name) ? stages.isLoaded(target.name) : modelReady(repository, target) })),
    ServerMetadata: call(() => serverMetadata(version)),
    ModelMetadata: call((target: ModelTarget) => modelMetadata(find(target), repository.versions(target.name))),
    ModelInfer: call((request: InferRequestMessage, context) =>
      isStage(request.model_name) ? stages.infer(request, context) : modelInfer(services, request, context),
    ),
    ModelStreamInfer: bidirectional((request: InferRequestMessage, context) => streamInfer(services, request, context), streamError, logger),
    ModelConfig: call((target: ModelTarget) => ({ config: modelConfig(find(target), config.serving.maxBatch) })),
    ModelStatistics: call(({ name, version: wanted }: ModelTarget) => statistics(services, name || undefined, wanted || undefined)),
    RepositoryIndex: call((request: { repository_name: string; ready: boolean }) => ({ models: repositoryIndex(repository, request) })),
    RepositoryModelLoad: call(async (request: RepositoryRequest, context) => {
      await (isStage(request.model_name) || hasFiles(request) ? stages.load(request, context) : loadModel(repository, request))
      return {}
    }),
    RepositoryModelUnload: call(async (request: RepositoryRequest, context) => {
      await (isStage(request.model_name) ? stages.unload(request, context) : unloadModel(repository, request))
      return {}
    }),
  }
}

function isStage(name: string): boolean {
  return digestIn(name) !== undefined
}

function hasFiles({ parameters }: RepositoryRequest): boolean {
  return Object.keys(parameters).some((name) => name.startsWith(FILE_PREFIX))
}
