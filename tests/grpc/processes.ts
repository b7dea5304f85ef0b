// Nodes as processes of their own, to be killed: `flyweight serve` with a gRPC port, a key, and no models.
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { mallocEnvironment } from '#flyweight/runtime/malloc.js'

export interface NodeProcess {
  child: ChildProcess
  /** `grpc://127.0.0.1:port`. */
  device: string
  stop(): Promise<void>
}

/** Resolves when the node is ready. It has the malloc settings, or it would start itself again as another process. */
export async function startNodeProcess(key: string): Promise<NodeProcess> {
  const folder = mkdtempSync(join(tmpdir(), 'flyweight-node-'))
  mkdirSync(join(folder, 'models'))
  const own = ['--no-banner', '--port', '0', '--grpc-port', '0', '--lanes', '1', '--models', join(folder, 'models'), '--data', join(folder, 'data')]
  const child = spawn(process.execPath, ['dist/main.js', 'serve', ...own, '--log-level', 'info'], {
    env: { PATH: process.env['PATH'], ...mallocEnvironment, FLYWEIGHT_SHARDING_KEY: key },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const exited = once(child, 'exit')
  const port = await new Promise<number>((resolve, reject) => {
    child.once('exit', (code) => reject(new Error(`the node ended with ${code}`)))
    createInterface({ input: child.stdout }).on('line', (line) => {
      if (line.includes('"msg":"ready"')) resolve((JSON.parse(line) as { grpcPort: number }).grpcPort)
    })
  })
  return {
    child,
    device: `grpc://127.0.0.1:${port}`,
    stop: async () => {
      child.kill('SIGKILL')
      await exited
      rmSync(folder, { recursive: true, force: true })
    },
  }
}
