// A node that holds stages, without the rest of a gateway: its gRPC server, an artifact store, and a real device.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { loadConfig } from '#flyweight/config.js'
import { buildGrpcServer, type GrpcServices } from '#flyweight/grpc/server.js'
import { StageNode } from '#flyweight/grpc/stage-node.js'
import { ArtifactStore } from '#flyweight/registry/artifact-store.js'
import { LocalHost } from '#flyweight/shard/local-host.js'
import type { StageHost } from '#flyweight/shard/stage-host.js'

export interface TestNode {
  folder: string
  port: number
  store: ArtifactStore
  /** Devices that were opened. */
  hosts: StageHost[]
  /** Ends the server at once, as a process that dies does. */
  stop(): Promise<void>
}

export async function startNode({ key = 'secret', leaseMs = 60_000, maxStageBytes = 2 ** 26 } = {}): Promise<TestNode> {
  const folder = mkdtempSync(join(tmpdir(), 'flyweight-node-'))
  const store = new ArtifactStore(join(folder, 'data'))
  const hosts: StageHost[] = []
  const openHost = () => {
    const host = new LocalHost({ device: 'cpu:0' })
    hosts.push(host)
    return host
  }
  const stages = new StageNode({ store, key, maxStageBytes, leaseMs, openHost })
  const config = loadConfig()
  const server = buildGrpcServer({ stages, config, logger: { error: () => {} }, repository: {}, gateway: {} } as unknown as GrpcServices)
  const port = await server.listen('127.0.0.1', 0)
  return {
    folder,
    port,
    store,
    hosts,
    stop: async () => {
      await server.close()
      rmSync(folder, { recursive: true, force: true })
    },
  }
}
