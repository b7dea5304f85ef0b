import { loadConfig } from '#flyweight/config.js'
import { ManifestSchema } from '#flyweight/registry/manifest.js'
import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { parse } from 'yaml'

const documents = [
  'README.md',
  'CONTRIBUTING.md',
  'CHANGELOG.md',
  ...readdirSync('docs', { recursive: true, encoding: 'utf8' }).map((name) => join('docs', name)),
].filter((file) => file.endsWith('.md'))

describe('documents', () => {
  it.each(documents)('%s links only to files that exist', (file) => {
    const links = [...readFileSync(file, 'utf8').matchAll(/\]\(([^)#\s]+)/g)].map(([, target = '']) => target)
    const dead = links.filter((target) => !/^https?:/.test(target) && !existsSync(join(dirname(file), target)))
    expect(dead).toEqual([])
  })

  it('docs/lifecycle.md names only source files that exist', () => {
    const named = [...readFileSync('docs/lifecycle.md', 'utf8').matchAll(/\b((?:[a-z0-9-]+\/)*[a-z0-9-]+\.ts)\b/g)].map(([, name = '']) => name)
    const sources = readdirSync('src', { recursive: true, encoding: 'utf8' })
    const unknown = named.filter((name) => !sources.some((source) => source === name || source.endsWith(`/${name}`)))
    expect(unknown).toEqual([])
  })

  it('every npm script that a document tells to run exists', () => {
    const { scripts } = JSON.parse(readFileSync('package.json', 'utf8')) as { scripts: Record<string, string> }
    const told = documents.flatMap((file) => [...readFileSync(file, 'utf8').matchAll(/npm run ([\w:-]+)/g)].map(([, name = '']) => name))
    expect(told.filter((name) => !(name in scripts))).toEqual([])
    for (const command of Object.values(scripts)) {
      const script = /^node (\S+\.m?js)/.exec(command)?.[1]
      if (script !== undefined && !script.startsWith('node_modules')) expect(existsSync(script), command).toBe(true)
    }
  })
})

describe('configuration', () => {
  const defaults = loadConfig()
  const keys = Object.entries(defaults).flatMap(([section, values]) => Object.keys(values).map((key) => `${section}.${key}`))

  it('README.md explains every key', () => {
    const readme = readFileSync('README.md', 'utf8')
    expect(keys.filter((key) => !readme.includes(`\`${key}\``))).toEqual([])
  })

  it('README.md explains every key of model.yaml', () => {
    const readme = readFileSync('README.md', 'utf8')
    const { policy, ...others } = ManifestSchema.properties
    const manifestKeys = [...Object.keys(others), ...Object.keys(policy.properties).map((key) => `policy.${key}`)]
    expect(manifestKeys.filter((key) => !readme.includes(`\`${key}\``))).toEqual([])
  })

  it('config/flyweight.yaml shows every key with its default', () => {
    const lines = readFileSync('config/flyweight.yaml', 'utf8').split('\n')
    const settings = lines.filter((line) => /^# ( {2})?\w+:/.test(line)).map((line) => line.slice(2))
    const { serving, ...shown } = parse(settings.join('\n')) as typeof defaults
    const { serving: servingDefaults, ...others } = defaults
    expect(shown).toEqual(others)
    // The number of lanes is this machine's.
    expect({ ...serving, lanes: servingDefaults.lanes }).toEqual(servingDefaults)
  })
})

describe('checks', () => {
  it('the build holds nothing that the sources do not', () => {
    const outputs = readdirSync('dist', { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.js'))
    expect(outputs.filter((name) => !existsSync(join('src', name.replace(/\.js$/, '.ts'))))).toEqual([])
  })

  it('.ci/run runs the test command of the README and can be executed', () => {
    expect(readFileSync('.ci/run', 'utf8')).toMatch(/^exec npm test$/m)
    expect(execFileSync('bash', ['-n', '.ci/run'])).toHaveLength(0)
  })
})
