// `flyweight infer`: one request to a running gateway, and what came back: outputs, the variant that
// answered, its fidelity and where the time went.
import type { Sla } from '../registry/manifest.js'
import type { GatewayClient } from './client.js'
import { numbersOf, parseInput, type InputMetadata, type InputOptions } from './inputs.js'
import { milliseconds, table, type Column } from './table.js'
import type { Terminal } from './terminal.js'

export interface InferFlags extends Pick<InputOptions, 'pixels' | 'rows'> {
  version?: string
  input: readonly string[]
  outputs?: readonly string[]
  sla: Sla
  variant?: string
  explain?: boolean
}

interface Answer {
  model: string
  version: string
  variant: string
  fidelity: number
  outputs: Record<string, { shape: number[]; dtype: string; data: unknown }>
  timing: { queueMs: number; inferMs: number; totalMs: number; batchSize: number }
  route: { reason: string; deadlineMet: boolean; considered?: Considered[] }
}

interface Considered {
  variant: string
  fidelity: number
  state: string
  predictedMs?: number
  chosen: boolean
  reason: string
}

/** Largest values shown of an output's last axis. */
const SHOWN = 5

export async function infer(terminal: Terminal, gateway: GatewayClient, model: string, flags: InferFlags): Promise<void> {
  const path = `/v2/models/${encodeURIComponent(model)}${flags.version === undefined ? '' : `/versions/${encodeURIComponent(flags.version)}`}`
  const { inputs: metadata } = await gateway.get<{ inputs: InputMetadata[] }>(path)
  const options: InputOptions = { pixels: flags.pixels, metadata, ...(flags.rows === undefined ? {} : { rows: flags.rows }) }
  const inputs = Object.fromEntries(await Promise.all(flags.input.map((text) => parseInput(text, options))))
  const answer = await gateway.post<Answer>(`/infer${flags.explain === true ? '?explain=1' : ''}`, {
    model,
    inputs,
    // Lossless for 64-bit integers, which JSON.parse would round.
    encoding: 'base64',
    ...(flags.version === undefined ? {} : { version: flags.version }),
    ...(Object.keys(flags.sla).length === 0 ? {} : { sla: flags.sla }),
    ...(flags.outputs === undefined ? {} : { outputs: flags.outputs }),
    ...(flags.variant === undefined ? {} : { variant: flags.variant }),
  })
  if (terminal.interactive) show(terminal, answer)
  else terminal.json({ ...answer, outputs: Object.fromEntries(Object.entries(answer.outputs).map(([name, output]) => [name, readable(output)])) })
}

/** Numbers in place of base64; integers that JSON cannot carry exactly become decimal strings. */
function readable(output: Answer['outputs'][string]): Answer['outputs'][string] {
  if (output.dtype === 'string') return output
  const data = Array.from(numbersOf(output.dtype, output.data), (value) =>
    typeof value === 'bigint' ? (Number.isSafeInteger(Number(value)) ? Number(value) : String(value)) : value,
  )
  return { ...output, data }
}

function show(terminal: Terminal, { model, version, variant, fidelity, outputs, timing, route }: Answer): void {
  const deadline = route.deadlineMet ? '' : terminal.paint('yellow', ', deadline missed')
  terminal.print(`${terminal.paint('bold', `${model}:${version}`)} answered by ${terminal.paint('cyan', variant)}, fidelity ${fidelity.toFixed(4)}${deadline}`)
  const { queueMs, inferMs, totalMs, batchSize } = timing
  terminal.print(`queue ${milliseconds(queueMs)} ms, inference ${milliseconds(inferMs)} ms, total ${milliseconds(totalMs)} ms, batch of ${batchSize}`)
  terminal.print(terminal.paint('dim', route.reason))
  for (const [name, output] of Object.entries(outputs)) {
    terminal.print(`\n${name} ${output.dtype} [${output.shape.join(', ')}]`)
    for (const line of largest(output)) terminal.print(`  ${line}`)
  }
  if (route.considered === undefined) return
  terminal.print('')
  for (const line of table(consideredColumns, route.considered)) terminal.print(line)
}

/** The largest values of the first rows' last axis with their indices: what a classifier's answer is about. */
function largest({ shape, dtype, data }: Answer['outputs'][string]): string[] {
  if (dtype === 'string') return (data as string[]).slice(0, SHOWN)
  const values = numbersOf(dtype, data)
  const width = shape.at(-1) ?? 1
  const rows = Math.min(values.length / Math.max(width, 1), 4)
  return Array.from({ length: rows }, (_, row) => {
    const line = Array.from({ length: width }, (__, index) => ({ index, value: Number(values[row * width + index]) }))
    const best = line.sort((a, b) => b.value - a.value).slice(0, SHOWN)
    return best.map(({ index, value }) => `${index}: ${value.toPrecision(4)}`).join('   ')
  })
}

const consideredColumns: readonly Column<Considered>[] = [
  { head: 'variant', cell: ({ variant, chosen }) => (chosen ? `→ ${variant}` : `  ${variant}`) },
  { head: 'fidelity', cell: ({ fidelity }) => fidelity.toFixed(4), align: 'right' },
  { head: 'p99 ms', cell: ({ predictedMs }) => (predictedMs === undefined ? '?' : milliseconds(predictedMs)), align: 'right' },
  { head: 'state', cell: ({ state }) => state },
  { head: 'why', cell: ({ reason }) => reason },
]
