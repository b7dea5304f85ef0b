// What this machine can run models on, and a name for it: a measured profile counts only where it
// was taken. Whether an accelerator answers is found out by opening a session on it.
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { availableParallelism, cpus } from 'node:os'
import { backends, runtimeVersion } from './session.js'

/** The instruction sets that change which kernels the runtime picks, hence which variant wins. */
const RELEVANT_FEATURES = ['avx2', 'avx512f', 'avx512_vnni', 'avx_vnni', 'amx_int8', 'amx_bf16', 'asimddp', 'i8mm', 'sve'] as const

export interface Device {
  /** As the configuration and sessions name it: `cpu`, `webgpu:0`, `cuda:0`. */
  name: string
  /** True when it came with the runtime; other devices need a separate download. */
  bundled: boolean
  detail: string
}

let features: readonly string[] | undefined

/** Relevant instruction sets of this CPU, as Linux names them; empty where they cannot be read. */
export function cpuFeatures(): readonly string[] {
  features ??= readFeatures()
  return features
}

function readFeatures(): readonly string[] {
  try {
    const line = /^(?:flags|Features)\s*:(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1] ?? ''
    const present = new Set(line.trim().split(/\s+/))
    return RELEVANT_FEATURES.filter((feature) => present.has(feature))
  } catch {
    return []
  }
}

/**
 * Names what a latency depends on beside the model: CPU, instruction sets, runtime version, device
 * and threads. Readable in front, e.g. `cpu-1t-avx512_vnni-3f2a9c1e04b7`; equal only on equal machines.
 */
export function machineFingerprint(device: string, threads: number): string {
  // However many threads run models on it, there is one CPU.
  const name = device.replace(/^cpu:\d+$/, 'cpu')
  const parts = [cpuModel(), String(availableParallelism()), process.arch, runtimeVersion, name, String(threads), ...cpuFeatures()]
  const hash = createHash('sha256').update(parts.join('\n')).digest('hex').slice(0, 12)
  const best = ['amx_int8', 'avx512_vnni', 'avx_vnni', 'avx512f', 'i8mm', 'asimddp', 'avx2'].find((feature) => cpuFeatures().includes(feature))
  return [name.replace(':', ''), `${threads}t`, best ?? process.arch, hash].join('-')
}

/** The devices that the installed runtime was built for. */
export function listDevices(): Device[] {
  return backends().map(({ name, bundled }) =>
    name === 'cpu'
      ? { name, bundled, detail: `${cpuModel()}, ${availableParallelism()} cores, ${cpuFeatures().join(' ') || process.arch}` }
      : { name: `${name}:0`, bundled, detail: bundled ? 'usable if a driver answers' : 'needs `npm run setup:gpu`' },
  )
}

function cpuModel(): string {
  return cpus()[0]?.model.trim() ?? process.arch
}
