import { connect } from '#flyweight/cli/client.js'
import { run } from '#flyweight/cli/program.js'
import { search } from '#flyweight/cli/search.js'
import { bestSoFar, searchLines } from '#flyweight/cli/search-report.js'
import { openTerminal } from '#flyweight/cli/terminal.js'
import type { SearchCandidate, SearchReport } from '#flyweight/measurements.js'
import { saveModel } from '#flyweight/onnx/load.js'
import { node } from '#flyweight/onnx/builder.js'
import { openSession } from '#flyweight/runtime/session.js'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import sharp from 'sharp'
import { afterAll, afterEach, describe, expect, it, vi } from 'vitest'
import { network, weights } from '../compress/compressing.js'

const folder = mkdtempSync(join(tmpdir(), 'flyweight-search-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const at = (...ratios: number[]) => ratios.map((ratio, index) => ({ batch: [1, 8, 32][index]!, ratio }))
const candidate = (recipe: string, more: Partial<SearchCandidate>): SearchCandidate => ({ recipe, fate: 'front', reason: 'faster', seconds: 1, ...more })
const fp32 = candidate('fp32', { bytes: 400_000, fidelity: 1, accuracy: 0.985, ratios: at(1, 1, 1), reason: 'the model as it came' })
const long = 'prune-channels(ratio=0.3,importance=l2)+recover+int8-static(calibration=percentile)'
const report: SearchReport = {
  budgetSeconds: 60,
  elapsedSeconds: 41.6,
  candidates: [
    fp32,
    candidate('int8-dynamic', { bytes: 180_000, fidelity: 0.999, accuracy: 0.984, ratios: at(0.9, 0.8, 0.7), variant: '9f2c6d0e5b7a4813' }),
    candidate(long, { bytes: 90_000, fidelity: 0.98, accuracy: 0.97, ratios: at(1.1, 0.5, 0.4), pinnedOnly: true, variant: 'c45f9b69fc814d66' }),
    candidate('fp16', { bytes: 200_000, fidelity: 1, accuracy: 0.985, ratios: at(1, 1, 1.1), fate: 'dominated', reason: 'int8-dynamic is at least as good' }),
    candidate('int4', { fate: 'rejected', reason: 'its fidelity 0.8123 is below the minimum 0.9: lower policy.minFidelity in model.yaml to accept it' }),
  ],
}
const plain = (columns: number) => searchLines(report, { columns, paint: (_style, text) => text })

describe('searchLines', () => {
  it.each([80, 120])('fit into %d columns', (columns) => {
    expect(Math.max(...plain(columns).map((line) => line.length))).toBeLessThanOrEqual(columns)
  })

  it('show the front as a table, and mark what answers only when pinned', () => {
    const text = plain(160).join('\n')
    expect(text).toContain('4 candidates in 42 s of 60 s')
    expect(text).toMatch(/^fp32 +1\.00× +1\.00× +1\.00× +400 kB +1\.0000 +98\.50 %$/m)
    expect(text).toMatch(/^int8-dynamic +0\.90× +0\.80× +0\.70× +180 kB +0\.9990 +98\.40 % +9f2c6d0e$/m)
    expect(text).toContain(`${long} *`)
    expect(text).toContain('* in the front for its bytes')
  })

  it('have fp32 in the table even where it is dominated: the others are compared with it', () => {
    const dominated = { ...report, candidates: [{ ...fp32, fate: 'dominated' as const, reason: 'int8-dynamic is at least as good' }, report.candidates[1]!] }
    const text = searchLines(dominated, { columns: 100, paint: (_style, each) => each }).join('\n')
    expect(text).toMatch(/^fp32 +1\.00×/m)
    expect(text).toMatch(/^dominated +fp32$/m)
  })

  it('tell the fate of every other candidate with its reason', () => {
    const text = plain(200).join('\n')
    expect(text).toMatch(/dominated +fp16\n +int8-dynamic is at least as good/)
    expect(text).toMatch(/rejected +int4\n +its fidelity 0\.8123 is below the minimum/)
  })

  it('name the fastest that answers unasked as the best so far', () => {
    expect(bestSoFar(undefined)).toBe('nothing faster yet')
    expect(bestSoFar({ ...report, candidates: [fp32] })).toBe('nothing faster yet')
    expect(bestSoFar(report)).toBe('best 0.80× int8-dynamic')
  })
})

let server: Server | undefined
afterEach(() => server?.close())

describe('search in a gateway', () => {
  it('asks for it with its budget, shows the best so far, and draws what came of it', async () => {
    const requests: unknown[] = []
    const job = { id: 'j1', kind: 'search', state: 'running', progress: { fraction: 0.5, step: 'int4: measuring' }, log: ['int8-dynamic: front'] }
    const done = { ...job, state: 'succeeded', result: { report, kept: ['digits:1:int8-dynamic'] } }
    server = createServer((request, response) => {
      void (async () => {
        const chunks: Buffer[] = []
        for await (const chunk of request) chunks.push(chunk as Buffer)
        if (request.method === 'POST') requests.push(JSON.parse(Buffer.concat(chunks).toString()))
        if (request.url?.endsWith('/events')) response.end(`event: progress\ndata: ${JSON.stringify(job)}\n\nevent: done\ndata: ${JSON.stringify(done)}\n\n`)
        else response.end(JSON.stringify({ ...job, result: done.result }))
      })()
    })
    await new Promise<void>((resolve) => server?.listen(0, '127.0.0.1', resolve))
    const lines: Record<string, unknown>[] = []
    const stdout = new Writable({
      write(chunk: Buffer, _encoding, next) {
        lines.push(JSON.parse(chunk.toString()) as Record<string, unknown>)
        next()
      },
    })
    const plot = join(folder, 'gateway.svg')
    const terminal = openTerminal({ json: true, stdout: stdout as unknown as NodeJS.WriteStream })
    const code = await search(terminal, connect(`http://127.0.0.1:${(server.address() as AddressInfo).port}`), 'digits', { budget: 30, plot })
    expect(code).toBe(0)
    expect(requests).toEqual([{ model: 'digits', recipe: 'auto', budgetSeconds: 30 }])
    expect(lines[0]).toMatchObject({ state: 'running', step: 'best 0.80× int8-dynamic | int4: measuring' })
    expect(lines.at(-1)).toMatchObject({ job: 'j1', report, kept: ['digits:1:int8-dynamic'], plot })
    expect(readFileSync(plot, 'utf8')).toContain('2 of 4 candidates')
  })

  it.each([
    [
      { report, kept: ['digits:1:int8-dynamic'] },
      'search j1 was cancelled after 4 candidates: best 0.80× int8-dynamic; the gateway keeps digits:1:int8-dynamic',
    ],
    [undefined, 'search j1 was cancelled after 0 candidates: it leaves no variants'],
  ])('says what a cancelled search leaves', async (result, message) => {
    const job = { id: 'j1', kind: 'search', state: 'cancelled', progress: { fraction: 0.5, step: '' }, ...(result === undefined ? {} : { result }) }
    server = createServer((request, response) => {
      if (request.url?.endsWith('/events')) response.end(`event: done\ndata: ${JSON.stringify(job)}\n\n`)
      else response.end(JSON.stringify(job))
    })
    await new Promise<void>((resolve) => server?.listen(0, '127.0.0.1', resolve))
    const terminal = openTerminal({ json: true, stdout: new Writable({ write: (_chunk, _encoding, next) => next() }) as unknown as NodeJS.WriteStream })
    const asked = search(terminal, connect(`http://127.0.0.1:${(server.address() as AddressInfo).port}`), 'digits', { budget: 30 })
    await expect(asked).rejects.toMatchObject({ code: 'cancelled', message })
  })
})

function flyweight(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, ['dist/main.js', ...args], { encoding: 'utf8', env: { PATH: process.env['PATH'] } })
  return { code: status, stdout, stderr }
}

describe('flyweight compress --recipe auto', () => {
  it('searches for variants of a file, writes those of the front, and draws it', async () => {
    const file = join(folder, 'tiny.onnx')
    const source = network([64], ['n', 64], [node('MatMul', ['x', 'w'], ['h']), node('Relu', ['h'], ['y'])], [weights('w', [64, 64])])
    await saveModel(source, file)
    const plot = join(folder, 'front.svg')
    const { code, stdout, stderr } = flyweight(
      'compress',
      file,
      '--recipe',
      'auto',
      '--budget',
      '2',
      '--plot',
      plot,
      '--out',
      join(folder, 'out'),
      '--min-fidelity',
      '0.5',
    )
    expect(stderr).toBe('')
    const lines = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { best?: string; report?: SearchReport; written?: string[]; plot?: string })
    expect(lines[0]).toMatchObject({ best: 'nothing faster yet' })
    const { report: found, written = [], plot: drawn } = lines.at(-1)!
    expect(found?.candidates[0]).toMatchObject({ recipe: 'fp32' })
    const front = found?.candidates.filter(({ fate, recipe }) => fate === 'front' && recipe !== 'fp32') ?? []
    expect(code).toBe(front.length > 0 ? 0 : 1)
    expect(written).toHaveLength(front.length)
    expect(drawn).toBe(plot)
    for (const variant of written) await (await openSession(variant, { device: 'cpu', threads: 1 })).release()
    expect(await sharp(plot).metadata()).toMatchObject({ format: 'svg', width: 880 })
  }, 60_000)

  it.each([
    [['--recipe', 'auto', '--budget', 'soon'], /--budget <seconds>' argument 'soon' is invalid\. expected seconds from 1 to 86400/],
    [['--recipe', 'auto', '--budget', '0'], /argument '0' is invalid/],
    [['--recipe', 'auto', '--plot', 'front.png'], /--plot <file>' argument 'front\.png' is invalid\. expected the name of an \.svg file/],
    [['--recipe', 'int8', '--budget', '9'], /--budget 9 came with --recipe int8, expected only with --recipe auto/],
    [['--recipe', 'int8', '--plot', 'a.svg'], /--plot a\.svg came with --recipe int8/],
    [['--recipe', 'auto', '--force'], /--force came with --recipe auto/],
  ])('says which flag is wrong, what came and what was expected: %j', async (args, message) => {
    const complaint = vi.spyOn(process.stderr, 'write').mockReturnValue(true)
    try {
      expect(await run(['node', 'flyweight', 'compress', 'tests/fixtures/digits_cnn.onnx', ...args])).toBe(2)
      expect(complaint.mock.calls.map(([text]) => text).join('')).toMatch(message)
    } finally {
      complaint.mockRestore()
    }
  })

  it('refuses a plot in a folder that does not exist before it searches', async () => {
    const args = ['node', 'flyweight', 'compress', 'tests/fixtures/digits_cnn.onnx', '--recipe', 'auto', '--plot', '/nowhere/a.svg']
    await expect(run(args)).rejects.toThrow('--plot: got /nowhere/a.svg, expected a file in a folder that exists: /nowhere does not')
  })
})
