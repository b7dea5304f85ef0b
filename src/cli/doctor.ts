// `flyweight doctor`: looks at the machine and the configuration, says what is wrong and how to mend it.
// Works without a running gateway. Exit code 1 when something is broken; a warning is not broken.
import { accessSync, constants, existsSync, mkdirSync, readFileSync, readdirSync, statfsSync } from 'node:fs'
import { availableParallelism, totalmem } from 'node:os'
import { join, resolve } from 'node:path'
import { connect as connectSocket } from 'node:net'
import { bytes } from '../chart/units.js'
import { loadConfig, type Config } from '../config.js'
import { messageOf } from '../errors.js'
import { isTuned } from '../runtime/malloc.js'
import type { Terminal } from './terminal.js'

export interface Finding {
  check: string
  status: 'ok' | 'warning' | 'broken'
  detail: string
  /** What to do about it; absent when all is well. */
  fix?: string
}

const ok = (check: string, detail: string): Finding => ({ check, status: 'ok', detail })
const warning = (check: string, detail: string, fix: string): Finding => ({ check, status: 'warning', detail, fix })
const broken = (check: string, detail: string, fix: string): Finding => ({ check, status: 'broken', detail, fix })

/** Runs every check and prints the findings; resolves to the exit code. */
export async function doctor(terminal: Terminal, flags: { config?: string }): Promise<number> {
  const findings = [nodeVersion(process.versions.node), ...(await runtimeFindings())]
  try {
    const config = loadConfig({ file: flags.config, environment: process.env })
    findings.push(ok('configuration', 'valid'), ...memory(config), lanes(config), dataDirectory(config), models(config), await port(config))
  } catch (error) {
    findings.push(broken('configuration', messageOf(error), 'correct the field, or see `flyweight serve --print-config`'))
  }
  findings.push(malloc(), openFiles())
  for (const finding of findings) show(terminal, finding)
  return findings.some(({ status }) => status === 'broken') ? 1 : 0
}

function show(terminal: Terminal, finding: Finding): void {
  if (!terminal.interactive) return terminal.json(finding)
  const { check, status, detail, fix } = finding
  const mark = { ok: terminal.paint('green', '✓'), warning: terminal.paint('yellow', '!'), broken: terminal.paint('red', '✗') }[status]
  terminal.print(`${mark} ${check.padEnd(16)} ${detail}`)
  if (fix !== undefined) terminal.print(`  ${''.padEnd(16)} → ${fix}`)
}

/** Node 20.19 is the oldest that has what the dependencies need. */
export function nodeVersion(version: string): Finding {
  const [major = 0, minor = 0] = version.split('.').map(Number)
  if (major > 20 || (major === 20 && minor >= 19)) return ok('node', version)
  return broken('node', version, 'install Node 20.19 or newer')
}

/** Loading the runtime is itself the test: it fails on an unsupported platform or C library. */
async function runtimeFindings(): Promise<Finding[]> {
  try {
    const { cpuFeatures, listDevices } = await import('../runtime/devices.js')
    const { runtimeVersion } = await import('../runtime/session.js')
    const devices = listDevices().map(({ name, detail }) => `${name} (${detail})`)
    return [ok('runtime', runtimeVersion), ok('devices', devices.join('; ')), int8Support(cpuFeatures(), process.arch)]
  } catch (error) {
    return [broken('runtime', messageOf(error), 'run `npm ci`; the prebuilt runtime needs glibc on Linux (Debian, Ubuntu, not Alpine)')]
  }
}

/** Without these instructions int8 products saturate or run no faster than float. */
export function int8Support(features: readonly string[], architecture: string): Finding {
  const fast = ['avx512_vnni', 'avx_vnni', 'amx_int8', 'i8mm', 'asimddp'].filter((feature) => features.includes(feature))
  if (fast.length > 0) return ok('int8', fast.join(' '))
  const detail = `no int8 dot product instructions found (${architecture}: ${features.join(' ') || 'unknown features'})`
  return warning('int8', detail, 'int8 variants may gain little here; the gate measures and keeps only those that pay')
}

function memory({ serving, jobs }: Config): Finding[] {
  const constrained = process.constrainedMemory()
  const limit = constrained > 0 && constrained < totalmem() ? constrained : totalmem()
  const source = limit === constrained ? 'cgroup limit' : 'machine'
  const budget = serving.memoryBudgetBytes === 0 ? limit / 2 : serving.memoryBudgetBytes
  const detail = `${bytes(limit)} (${source}), ${bytes(budget)} of it for models`
  if (budget > limit * 0.9) return [warning('memory', detail, 'lower serving.memoryBudgetBytes (--memory) below 90 % of the limit')]
  if (limit < 512e6) return [warning('memory', detail, 'give the process 512 MB or more: the gateway itself needs about 100 MB')]
  if (jobs.memoryBytes > limit) return [warning('memory', detail, `jobs may take ${bytes(jobs.memoryBytes)}, more than there is: lower jobs.memoryBytes`)]
  return [ok('memory', detail)]
}

function lanes({ serving }: Config): Finding {
  const threads = serving.lanes * serving.threadsPerLane
  const detail = `${serving.lanes} × ${serving.threadsPerLane} threads on ${availableParallelism()} cores, device ${serving.device}`
  if (threads <= availableParallelism()) return ok('lanes', detail)
  return warning('lanes', detail, 'lower serving.lanes or serving.threadsPerLane: lanes that share cores only delay each other')
}

function dataDirectory({ data }: Config): Finding {
  const directory = resolve(data.directory)
  try {
    mkdirSync(directory, { recursive: true })
    accessSync(directory, constants.W_OK)
    const { bavail, bsize } = statfsSync(directory)
    const free = bavail * bsize
    if (free < 1e9) return warning('data directory', `${directory}, ${bytes(free)} free`, 'make room, or choose another disk with --data')
    return ok('data directory', `${directory}, ${bytes(free)} free`)
  } catch (error) {
    return broken('data directory', messageOf(error), `make ${directory} writable, or choose another with --data`)
  }
}

function models({ models: { directory } }: Config): Finding {
  if (!existsSync(directory)) return broken('models', `${resolve(directory)} does not exist`, 'create it, or name another with --models')
  const entries = readdirSync(directory, { withFileTypes: true }).filter((entry) => entry.isDirectory())
  const empty = entries.filter(({ name }) => !hasModel(join(directory, name))).map(({ name }) => name)
  if (entries.length === 0)
    return warning('models', `${resolve(directory)} is empty`, 'put a model at models/<name>/1/model.onnx, or upload it to /admin/models')
  if (empty.length > 0) return warning('models', `nothing to serve in ${empty.join(', ')}`, 'a model needs <version>/model.onnx, or `source:` in model.yaml')
  return ok('models', entries.map(({ name }) => name).join(', '))
}

function hasModel(folder: string): boolean {
  const versions = readdirSync(folder, { withFileTypes: true }).filter((entry) => entry.isDirectory())
  return existsSync(join(folder, 'model.yaml')) || versions.some(({ name }) => existsSync(join(folder, name, 'model.onnx')))
}

async function port({ server: { host, port: number } }: Config): Promise<Finding> {
  const taken = await new Promise<boolean>((resolvePort) => {
    const socket = connectSocket({ host, port: number, timeout: 1000 }, () => resolvePort(true))
    for (const event of ['error', 'timeout']) socket.once(event, () => resolvePort(false))
    socket.once('close', () => socket.destroy())
    socket.once('connect', () => socket.destroy())
  })
  if (!taken || number === 0) return ok('port', `${host}:${number} is free`)
  return warning('port', `something listens on ${host}:${number} already`, 'that may be a running gateway; else choose another with --port')
}

function malloc(): Finding {
  if (isTuned(process.env)) return ok('malloc', 'settings are in the environment, or not needed here')
  return ok('malloc', '`flyweight serve` re-executes itself with its settings')
}

function openFiles(): Finding {
  if (process.platform !== 'linux') return ok('open files', 'not checked on this platform')
  const soft = /^Max open files\s+(\d+|unlimited)/m.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1] ?? 'unlimited'
  if (soft === 'unlimited' || Number(soft) >= 2048) return ok('open files', soft)
  return warning('open files', soft, 'raise it for more than a thousand connections: ulimit -n 65536')
}
