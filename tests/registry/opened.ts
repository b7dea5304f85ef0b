// A repository on a folder of its own for each test, with real probation. Importing this file sets it up;
// what it exports changes from test to test.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach } from 'vitest'
import { ArtifactStore } from '#flyweight/registry/artifact-store.js'
import { Catalog } from '#flyweight/registry/catalog.js'
import { Repository } from '#flyweight/registry/repository.js'
import { inspectModel } from '#flyweight/runtime/probation.js'
import { openSession } from '#flyweight/runtime/session.js'

export let folder: string
export let models: string
export let store: ArtifactStore
export let catalog: Catalog
export let repository: Repository
export let inspected: string[]
export const events: string[] = []

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'flyweight-repository-'))
  models = join(folder, 'models')
})
afterEach(async () => {
  await repository.close()
  catalog.close()
  rmSync(folder, { recursive: true })
})

export async function start(options: { watch?: boolean } = {}): Promise<void> {
  store = new ArtifactStore(join(folder, 'data'))
  catalog = new Catalog(join(folder, 'data', 'catalog.db'), { machine: 'here' })
  inspected = []
  events.length = 0
  repository = new Repository({
    root: models,
    watch: options.watch ?? false,
    store,
    catalog,
    inspect: (file, inspection) => {
      inspected.push(file)
      return inspectModel(file, inspection)
    },
  })
  repository.on('ready', ({ name, version }) => events.push(`ready ${name} ${version}`))
  repository.on('gone', ({ name, version }) => events.push(`gone ${name} ${version}`))
  await repository.start()
  await repository.ready
}

export async function restart(): Promise<void> {
  await repository.close()
  catalog.close()
  await start()
}

/** What the served version makes of ones: its factor. */
export async function factorOf(name: string, version?: string): Promise<number> {
  const session = await openSession(repository.resolve(name, version).file)
  const { y } = await session.run({ x: { dtype: 'float32', dims: [1, 4], data: new Float32Array(4).fill(1) } })
  await session.release()
  return (y!.data as Float32Array)[0]!
}

export const status = (name: string) => repository.list().filter((line) => line.name === name)
