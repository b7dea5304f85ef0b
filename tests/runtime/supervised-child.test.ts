// Supervised processes: however one ends, the reason is told.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { afterAll, expect, test } from 'vitest'
import { startChild, type ChildOptions } from '#flyweight/runtime/supervised-child.js'

const directory = mkdtempSync(join(tmpdir(), 'flyweight-child-'))
afterAll(() => rmSync(directory, { recursive: true }))

let serial = 0
function run(code: string, options: Partial<ChildOptions> = {}) {
  const file = join(directory, `${serial++}.mjs`)
  writeFileSync(file, code)
  const messages: unknown[] = []
  const child = startChild({
    entry: pathToFileURL(file),
    message: { answer: 42n },
    memoryBytes: 2 ** 30,
    timeoutMs: 20_000,
    onMessage: (message) => messages.push(message),
    ...options,
  })
  return { ...child, messages }
}

test('its messages keep their types, and its settings make freed memory return', async () => {
  const child = run(`process.once('message', (message) => {
    process.send({ message, floats: new Float32Array([1.5]), trim: process.env.MALLOC_TRIM_THRESHOLD_ }, () => process.disconnect())
  })`)
  expect(await child.ended).toMatchObject({ reason: 'exit' })
  expect(child.messages).toEqual([{ message: { answer: 42n }, floats: new Float32Array([1.5]), trim: '16777216' }])
})

test.each([
  ['a signal', `process.kill(process.pid, 'SIGSEGV'); setInterval(() => {}, 1000)`, {}, 'crash', 'crashed (signal SIGSEGV)'],
  ['an uncaught error', `throw new Error('boom')`, {}, 'crash', 'crashed (exit code 1)'],
  ['a hang', `for (;;);`, { timeoutMs: 300 }, 'timeout', 'took longer than 0.3 s and was killed'],
  [
    'a full JavaScript heap',
    `const all = []; for (;;) all.push(Array(1e4).fill(0.5))`,
    { memoryBytes: 300 * 2 ** 20 },
    'crash',
    'ran out of JavaScript memory (limit 150 MiB)',
  ],
])('the end by %s is told', async (_, code, options, reason, description) => {
  expect(await run(code, options).ended).toMatchObject({ reason, description })
})

test.runIf(process.platform === 'linux')('too much native memory', async () => {
  const end = await run(`const all = []; setInterval(() => all.push(Buffer.alloc(1e7, 1)), 1)`, { memoryBytes: 300 * 2 ** 20 }).ended
  expect(end).toMatchObject({ reason: 'memory', description: 'needed more than 300 MiB of memory and was killed' })
})

test('what it wrote to stderr is kept', async () => {
  expect((await run(`console.error('the last words'); process.exit(3)`).ended).stderr).toBe('the last words')
})

test('stopping asks first and kills then', async () => {
  const stubborn = run(`process.on('SIGTERM', () => {}); process.send('ready'); setInterval(() => {}, 1000)`)
  while (stubborn.messages.length === 0) await new Promise((resolve) => setTimeout(resolve, 5))
  expect(await stubborn.stop(50)).toMatchObject({ reason: 'stopped' })
  expect(() => process.kill(stubborn.pid, 0)).toThrow()
})
