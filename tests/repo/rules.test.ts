import { spawnSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'

let folder: string | undefined
afterEach(() => {
  if (folder !== undefined) rmSync(folder, { recursive: true, force: true })
})

/** A project of the given files beside this one's settings and installed packages. */
function project(files: Readonly<Record<string, string>>): string {
  folder = mkdtempSync(join(tmpdir(), 'flyweight-rules-'))
  for (const name of ['package.json', 'package-lock.json', 'tsconfig.json', '.dependency-cruiser.cjs', 'scripts'])
    cpSync(name, join(folder, name), { recursive: true })
  symlinkSync(resolve('node_modules'), join(folder, 'node_modules'))
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true })
    writeFileSync(join(folder, name), text)
  }
  return folder
}

function brokenRules(files: Readonly<Record<string, string>>): string[] {
  const args = [resolve('node_modules/dependency-cruiser/bin/dependency-cruise.mjs'), '--config', '.dependency-cruiser.cjs', '--output-type', 'json', 'src']
  const { stdout } = spawnSync(process.execPath, args, { cwd: project(files), encoding: 'utf8' })
  const { summary } = JSON.parse(stdout) as { summary: { violations: { from: string; rule: { name: string } }[] } }
  return [...new Set(summary.violations.map(({ from, rule }) => `${rule.name}: ${from}`))].sort()
}

describe('dependency rules', () => {
  it('let the layers import what they may', () => {
    const files = {
      'src/errors.ts': 'export const e = 1',
      'src/tensor/t.ts': "import { e } from '../errors.js'\nexport const t = e",
      'src/onnx/o.ts': "import { t } from '../tensor/t.js'\nexport const o = t",
      'src/runtime/session.ts': "import ort from 'onnxruntime-node'\nimport { o } from '../onnx/o.js'\nexport const s = [ort, o]",
      'src/app.ts': "import { s } from './runtime/session.js'\nexport const app = s",
      'src/cli/c.ts': "import { app } from '../app.js'\nexport const c = app",
      'src/main.ts': "import { c } from './cli/c.js'\nconsole.log(c)",
    }
    expect(brokenRules(files)).toEqual([])
  })

  it('forbid what breaks them, naming rule and file', () => {
    const files = {
      'src/app.ts': 'export const app = 1',
      'src/errors.ts': "import { t } from './tensor/t.js'\nexport const e = t",
      'src/tensor/t.ts': 'export const t = 1',
      'src/serving/a.ts': "import { b } from '../http/b.js'\nimport { fastify } from 'fastify'\nexport const a = [b, fastify]",
      'src/http/b.ts': "import { app } from '../app.js'\nexport const b = app",
      'src/onnx/a.ts': "import type { R } from '../runtime/r.js'\nimport { i } from './index.js'\nimport fc from 'fast-check'\nexport const a: R = [i, fc]",
      'src/onnx/index.ts': 'export const i = 1',
      'src/onnx/loop.ts': "import { pool } from './pool.js'\nexport const loop = () => pool",
      'src/onnx/pool.ts': "import { loop } from './loop.js'\nexport const pool = () => loop",
      'src/onnx/alone.ts': 'export const alone = 1',
      'src/runtime/r.ts': 'export type R = unknown',
      'src/jobs/a.ts':
        "import ort from 'onnxruntime-node'\nimport Database from 'libsql'\nimport { gone } from './gone.js'\nexport const a = [ort, Database, gone]",
    }
    expect(brokenRules(files)).toEqual(
      [
        'fastify-in-http: src/serving/a.ts',
        'leaves: src/errors.ts',
        'no-barrels: src/onnx/a.ts',
        'no-circular: src/onnx/loop.ts',
        'no-dev-dependencies: src/onnx/a.ts',
        'no-orphans: src/onnx/alone.ts',
        'nobody-imports-app: src/http/b.ts',
        'http-layer: src/http/b.ts',
        'onnx-layer: src/onnx/a.ts',
        'resolvable: src/jobs/a.ts',
        'runtime-in-session: src/jobs/a.ts',
        'serving-layer: src/serving/a.ts',
        'sqlite-in-two-files: src/jobs/a.ts',
      ].sort(),
    )
  })
})

describe('scripts/build.mjs', () => {
  it('builds once, again when a source changes, and removes what a deleted source left', () => {
    const root = project({ 'src/a.ts': 'export const a: number = 1\n', 'src/b/c.ts': 'export const c = 2\n' })
    const build = () => spawnSync(process.execPath, ['scripts/build.mjs'], { cwd: root, encoding: 'utf8' })
    expect(build()).toMatchObject({ status: 0, stdout: expect.stringContaining('building…') as string })
    expect(existsSync(join(root, 'dist/b/c.js'))).toBe(true)
    expect(build()).toMatchObject({ status: 0, stdout: '' })

    rmSync(join(root, 'src/b/c.ts'))
    writeFileSync(join(root, 'src/a.ts'), 'export const a: number = 3\n')
    expect(build().stdout).toContain('building…')
    expect(existsSync(join(root, 'dist/b/c.js'))).toBe(false)

    rmSync(join(root, 'dist/a.js'))
    expect(build().status).toBe(0)
    expect(existsSync(join(root, 'dist/a.js'))).toBe(true)
  })

  it('fails on a type error, and does not take the failed build for a good one', () => {
    const root = project({ 'src/a.ts': "export const a: number = 'one'\n" })
    const build = () => spawnSync(process.execPath, ['scripts/build.mjs'], { cwd: root, encoding: 'utf8' })
    for (let attempt = 0; attempt < 2; attempt++) {
      const { status, stdout } = build()
      expect(status).toBe(1)
      expect(stdout).toContain('src/a.ts(1,14): error TS2322')
    }
  })
})
