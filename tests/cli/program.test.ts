import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'

const folder = mkdtempSync(join(tmpdir(), 'flyweight-cli-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

function flyweight(args: readonly string[], env: Record<string, string> = {}): { code: number | null; stdout: string; stderr: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, ['dist/main.js', ...args], { encoding: 'utf8', env: { PATH: process.env['PATH'], ...env } })
  return { code: status, stdout, stderr }
}

describe('flyweight', () => {
  it('lists its commands, and exits with 0', () => {
    const { code, stdout } = flyweight(['--help'])
    expect(code).toBe(0)
    for (const command of ['serve', 'models', 'compress', 'infer', 'doctor']) expect(stdout).toContain(command)
  })

  it.each([
    [['frobnicate'], /unknown command/],
    [['serve', '--port', 'eighty'], /whole number/],
    [['serve', '--memory', 'plenty'], /512MB/],
    [['serve', '--frobnicate'], /unknown option/],
    [['compress', 'digits'], /--recipe/],
    [['infer', 'digits', '--input', 'x=1', '--min-fidelity', '2'], /from 0 to 1/],
    [['infer', 'digits', '--input', 'x=1', '--on-miss', 'cry'], /degrade, reject, wait/],
  ])('exits with 2 on wrong usage and says what is wrong: %j', (args, message) => {
    const { code, stderr } = flyweight(args)
    expect(stderr).toMatch(message)
    expect(code).toBe(2)
  })

  it('exits with 1 where no gateway answers, and says how to start one', () => {
    const { code, stdout, stderr } = flyweight(['models', '--url', 'http://127.0.0.1:1'])
    expect(code).toBe(1)
    expect(stdout).toBe('')
    expect(stderr).toMatch(/^error: no gateway answers at http:\/\/127\.0\.0\.1:1 .*npm start/)
  })

  it('prints the effective configuration: defaults < file < environment < flags', () => {
    const file = join(folder, 'flyweight.yaml')
    writeFileSync(file, 'server: { port: 1001 }\nserving: { maxBatch: 7, lanes: 3 }\njobs: { concurrency: 2 }\n')
    const { code, stdout } = flyweight(['serve', '--print-config', '--config', file, '--lanes', '5', '--memory', '64MiB'], {
      FLYWEIGHT_SERVING_LANES: '4',
      FLYWEIGHT_SERVER_PORT: '1002',
    })
    expect(code).toBe(0)
    expect(JSON.parse(stdout)).toMatchObject({
      server: { host: '127.0.0.1', port: 1002 },
      serving: { maxBatch: 7, lanes: 5, memoryBudgetBytes: 64 * 2 ** 20 },
      jobs: { concurrency: 2 },
    })
  })

  it('names the field of an invalid configuration and exits with 1', () => {
    const { code, stderr } = flyweight(['serve', '--print-config'], { FLYWEIGHT_SERVER_PORT: 'eighty' })
    expect(code).toBe(1)
    expect(stderr).toContain('/server/port')
  })
})
