// The thread behind a Lane: sessions by key, one message at a time. Started by URL, never imported.
// Everything slow and native happens here, so that the main thread never runs a model.
import { readlinkSync } from 'node:fs'
import { setPriority } from 'node:os'
import { basename } from 'node:path'
import { parentPort, workerData } from 'node:worker_threads'
import { FlyweightError, messageOf, type ErrorCode } from '../errors.js'
import type { Tensor } from '../tensor/tensor.js'
import type { LaneReply, LaneRequest, LaneRun, LaneWorkerData } from './lane.js'
import { OutputMemory } from './output-memory.js'
import { openSession, type Session } from './session.js'

const { device, threads, closing } = workerData as LaneWorkerData
const port = parentPort
if (port === null) throw new Error('lane-worker.js runs as a worker thread only')

/** Below the main thread, which must answer promptly however busy the lanes are; above job processes. */
const NICENESS = 5
stepBack()

const sessions = new Map<string, { session: Session; memory: OutputMemory }>()

// Runs yield to the event loop before they start, so a later message must wait for its turn.
let turn: Promise<void> = Promise.resolve()
port.on('message', (request: LaneRequest) => {
  turn = turn.then(() => handle(request))
})

async function handle(request: LaneRequest): Promise<void> {
  // The lane has rejected it already; only the close that follows counts.
  if (Atomics.load(closing, 0) === 1 && request.op !== 'close') return
  try {
    switch (request.op) {
      case 'run': {
        const result = await run(request)
        return reply({ id: request.id, result }, [...buffersOf(result.outputs), ...result.spent])
      }
      case 'load':
        return reply({ id: request.id, result: await load(request.key, request.file) })
      case 'unload':
        return reply({ id: request.id, result: await unload(request.key) })
      case 'close':
        for (const key of sessions.keys()) await unload(key)
        return port?.close()
    }
  } catch (error) {
    reply({ id: request.id, error: { code: codeOf(error, request.op), detail: messageOf(error) } })
  }
}

/** Lowers the priority of this thread alone: on Linux a priority belongs to a thread, and its id is what /proc/thread-self links to. */
function stepBack(): void {
  try {
    setPriority(Number(basename(readlinkSync('/proc/thread-self'))), NICENESS)
  } catch {
    // Elsewhere threads share their process's priority: lanes then compete with the main thread as equals.
  }
}

function reply(message: LaneReply, transfer: readonly ArrayBuffer[] = []): void {
  port?.postMessage(message, transfer)
}

async function load(key: string, file: string): Promise<{ loadMs: number; residentBytes: number }> {
  await unload(key)
  const before = process.memoryUsage.rss()
  const start = performance.now()
  const session = await openSession(file, { device, threads })
  sessions.set(key, { session, memory: new OutputMemory(session) })
  const loadMs = performance.now() - start
  return { loadMs, residentBytes: Math.max(0, process.memoryUsage.rss() - before) }
}

async function run({ key, feeds, fetches, memory }: Extract<LaneRequest, { op: 'run' }>): Promise<LaneRun> {
  const loaded = sessions.get(key)
  if (loaded === undefined) throw new FlyweightError('inference_failed', `"${key}" is not loaded on this lane`)
  const start = performance.now()
  const { outputs, left } = await loaded.memory.run(feeds, fetches, memory)
  return { outputs, runMs: performance.now() - start, spent: [...buffersOf(feeds), ...left] }
}

async function unload(key: string): Promise<void> {
  const loaded = sessions.get(key)
  sessions.delete(key)
  await loaded?.session.release()
}

/** The buffers to move back, each once: two tensors may share one. */
function buffersOf(tensors: Readonly<Record<string, Tensor>>): ArrayBuffer[] {
  const buffers: ArrayBuffer[] = []
  for (const name in tensors) {
    const data = tensors[name]?.data
    if (data !== undefined && !Array.isArray(data) && !buffers.includes(data.buffer)) buffers.push(data.buffer)
  }
  return buffers
}

function codeOf(error: unknown, op: LaneRequest['op']): ErrorCode {
  if (error instanceof FlyweightError) return error.code
  const text = messageOf(error)
  if (/bad_alloc|out of memory|Failed to allocate/i.test(text)) return 'out_of_memory'
  if (op === 'load') return 'invalid_model'
  return /invalid dimensions for input|Invalid rank for input|Unexpected input data type/i.test(text) ? 'invalid_input' : 'inference_failed'
}
