import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'

const folder = mkdtempSync(join(tmpdir(), 'flyweight-serve-'))
const started = new Set<ChildProcess>()
beforeAll(() => cpSync('models/digits', join(folder, 'models', 'digits'), { recursive: true }))
afterEach(() => {
  for (const child of started) child.kill('SIGKILL')
  started.clear()
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

interface Ready {
  child: ChildProcess
  lines: string[]
  address: string
  /** The request that the gateway suggests. */
  suggestion: string
}

/** Runs `flyweight serve` without malloc settings, so that it has to start itself again, until it says that it is ready. */
async function serve(args: readonly string[] = ['--no-banner'], graceMs = 0): Promise<Ready> {
  const own = ['serve', '--port', '0', '--models', join(folder, 'models'), '--data', join(folder, 'data'), '--log-level', 'info', ...args]
  const child = spawn(process.execPath, ['dist/main.js', ...own], {
    env: { PATH: process.env['PATH'], FLYWEIGHT_SERVER_DRAIN_GRACE_MS: String(graceMs) },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  started.add(child)
  const lines: string[] = []
  const ready = new Promise<Ready>((resolve) => {
    createInterface({ input: child.stdout }).on('line', (line) => {
      lines.push(line)
      if (!line.includes('"msg":"ready"')) return
      const { address, try: suggestion } = JSON.parse(line) as { address: string; try: string }
      resolve({ child, lines, address, suggestion })
    })
  })
  const early = once(child, 'exit').then(([code]) => Promise.reject(new Error(`serve ended with ${code}: ${lines.join('\n')}`)))
  return Promise.race([ready, early])
}

async function exitOf(child: ChildProcess): Promise<number | null> {
  if (child.exitCode !== null) return child.exitCode
  const [code] = (await once(child, 'exit')) as [number | null]
  return code
}

describe('flyweight serve', () => {
  it('suggests a request that is answered', async () => {
    const { child, address, suggestion } = await serve()
    const [, url, type, body] = /^curl -s (\S+) -H '([^']+)' -d @(\S+)$/.exec(suggestion) ?? []
    expect(url).toBe(`${address}/infer`)
    const [name = '', value = ''] = (type ?? '').split(': ')
    const response = await fetch(url ?? '', { method: 'POST', headers: { [name]: value }, body: readFileSync(body ?? '', 'utf8').replaceAll('\n', '') })
    expect(response.status).toBe(200)
    const { outputs } = (await response.json()) as { outputs: { logits: { data: number[] } } }
    // The digit in the example is a seven.
    expect(outputs.logits.data.indexOf(Math.max(...outputs.logits.data))).toBe(7)
    child.kill('SIGTERM')
    expect(await exitOf(child)).toBe(0)
  })

  it('keeps serving for the grace period after SIGTERM while /readyz says no, then exits with 0', async () => {
    const { child, address } = await serve(['--no-banner'], 1500)
    expect((await fetch(`${address}/readyz`)).status).toBe(200)
    child.kill('SIGTERM')
    await expect.poll(async () => (await fetch(`${address}/readyz`)).status, { timeout: 1400 }).toBe(503)
    expect((await fetch(`${address}/v2/models/digits`)).status).toBe(200)
    expect(await exitOf(child)).toBe(0)
    await expect(fetch(`${address}/healthz`)).rejects.toThrow()
  })

  it('takes SIGINT without a grace period', async () => {
    const { child } = await serve(['--no-banner'], 60_000)
    child.kill('SIGINT')
    expect(await exitOf(child)).toBe(0)
  })

  it('exits at once on a second signal, which is not the first one delivered twice', async () => {
    const { child, lines } = await serve(['--no-banner'], 60_000)
    child.kill('SIGTERM')
    await expect.poll(() => lines.some((line) => line.includes('draining'))).toBe(true)
    child.kill('SIGTERM')
    await new Promise((resolve) => setTimeout(resolve, 700))
    expect(child.exitCode).toBeNull()
    child.kill('SIGTERM')
    expect(await exitOf(child)).toBe(143)
  })

  it('prints the banner where it is asked to: address, request to paste, docs and models', async () => {
    const { child, lines, address, suggestion } = await serve(['--banner'])
    await expect.poll(() => lines.some((line) => /digits +1 +READY/.test(line))).toBe(true)
    expect(lines).toContain(`  try   ${suggestion}`)
    expect(lines).toContain(`  docs  ${address}/docs`)
    child.kill('SIGINT')
    expect(await exitOf(child)).toBe(0)
  })

  it('does not outlive the process that was started, even when that is killed', async () => {
    const { child, address } = await serve()
    child.kill('SIGKILL')
    const gone = () =>
      fetch(`${address}/healthz`).then(
        () => false,
        () => true,
      )
    await expect.poll(gone, { timeout: 10_000 }).toBe(true)
  })

  it('says what is in the way when its port is taken, and exits with 1', async () => {
    const { address, child } = await serve()
    const second = spawn(
      process.execPath,
      ['dist/main.js', 'serve', '--port', new URL(address).port, '--data', join(folder, 'other'), '--models', join(folder, 'models')],
      {
        env: { PATH: process.env['PATH'] },
        stdio: ['ignore', 'ignore', 'pipe'],
      },
    )
    started.add(second)
    let complaint = ''
    second.stderr.on('data', (chunk: Buffer) => (complaint += chunk.toString()))
    expect(await exitOf(second)).toBe(1)
    expect(complaint).toContain('EADDRINUSE')
    child.kill('SIGINT')
    await exitOf(child)
  })
})
