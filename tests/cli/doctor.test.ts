import { doctor, int8Support, nodeVersion } from '#flyweight/cli/doctor.js'
import { openTerminal } from '#flyweight/cli/terminal.js'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import { afterAll, describe, expect, it } from 'vitest'

const folder = mkdtempSync(join(tmpdir(), 'flyweight-doctor-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

async function diagnose(yaml: string): Promise<{ code: number; findings: Map<string, { status: string; fix?: string }> }> {
  const file = join(folder, 'config.yaml')
  writeFileSync(file, yaml)
  let text = ''
  const stdout = new Writable({
    write(chunk: Buffer, _encoding, done) {
      text += chunk.toString()
      done()
    },
  }) as unknown as NodeJS.WriteStream
  const code = await doctor(openTerminal({ json: true, stdout }), { config: file })
  const lines = text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { check: string; status: string; fix?: string })
  return { code, findings: new Map(lines.map((line) => [line.check, line])) }
}

describe('doctor', () => {
  it('exits with 1 when the models folder is missing, and says what to do', async () => {
    const { code, findings } = await diagnose(
      `models: { directory: ${join(folder, 'absent')} }\ndata: { directory: ${join(folder, 'data')} }\nserver: { port: 0 }\n`,
    )
    expect(code).toBe(1)
    expect(findings.get('models')).toMatchObject({ status: 'broken', fix: expect.stringContaining('--models') as string })
    expect(findings.get('data directory')?.status).not.toBe('broken')
    expect(findings.get('runtime')?.status).toBe('ok')
  })

  it('exits with 0 on warnings alone', async () => {
    const { code, findings } = await diagnose(
      `models: { directory: ${folder} }\ndata: { directory: ${join(folder, 'data')} }\nserver: { port: 0 }\nserving: { lanes: 200 }\n`,
    )
    expect(findings.get('lanes')?.status).toBe('warning')
    expect(code).toBe(0)
  })

  it('names the field of an invalid configuration', async () => {
    const { code, findings } = await diagnose('server: { port: eighty }\n')
    expect(code).toBe(1)
    expect(findings.get('configuration')).toMatchObject({ status: 'broken', detail: expect.stringContaining('/server/port') as string })
  })
})

describe('checks', () => {
  it.each([
    ['20.18.9', 'broken'],
    ['18.20.0', 'broken'],
    ['20.19.0', 'ok'],
    ['24.1.0', 'ok'],
  ])('judges Node %s as %s', (version, status) => {
    expect(nodeVersion(version).status).toBe(status)
  })

  it('warns where the CPU has no int8 dot products', () => {
    expect(int8Support(['avx2', 'avx512_vnni'], 'x64').status).toBe('ok')
    expect(int8Support(['avx2'], 'x64').status).toBe('warning')
  })
})
