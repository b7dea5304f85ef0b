// The catalog: what it is told survives a restart; profiles of another machine do not mislead; damage costs measurements only.
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import Database from 'libsql'
import { Catalog, type CatalogChange } from '#flyweight/registry/catalog.js'
import { profileOn, variantOf } from './models.js'

let folder: string
let file: string
const opened: Catalog[] = []
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'flyweight-catalog-'))
  file = join(folder, 'deep', 'catalog.db')
})
afterEach(() => {
  for (const catalog of opened.splice(0)) catalog.close()
  rmSync(folder, { recursive: true })
})

function open(machine = 'here', warn?: (message: string) => void): Catalog {
  const catalog = new Catalog(file, { machine, ...(warn === undefined ? {} : { warn }) })
  opened.push(catalog)
  return catalog
}

function restarted(machine?: string): Catalog {
  opened.pop()?.close()
  return open(machine)
}

describe('the catalog', () => {
  it('remembers variants, their state and whether they are pinned over a restart', () => {
    const catalog = open()
    catalog.saveVariant(variantOf('int8', { profile: profileOn('here') }))
    catalog.saveVariant(variantOf('fp32'))
    catalog.saveVariant(variantOf('fp16'))
    catalog.setPinned('m:1:int8', true)
    catalog.setState('m:1:fp16', 'quarantined', 'it took down 2 lanes')
    catalog.saveVariant(variantOf('gone'))
    catalog.deleteVariant('m:1:gone')
    const before = catalog.allVariants()
    expect(before).toHaveLength(3)
    const after = restarted()
    expect([...after.allVariants()].sort((a, b) => a.id.localeCompare(b.id))).toEqual([...before].sort((a, b) => a.id.localeCompare(b.id)))
    expect(after.variant('m:1:int8')).toMatchObject({ pinned: true, profile: profileOn('here') })
    expect(after.variant('m:1:fp16')).toMatchObject({ state: 'quarantined', reason: 'it took down 2 lanes' })
    expect(after.variant('m:1:gone')).toBeUndefined()
  })

  it('lists the source first, then by age, of one version only', () => {
    const catalog = open()
    catalog.saveVariant(variantOf('late', { createdAt: '2026-03-01T00:00:00.000Z' }))
    catalog.saveVariant(variantOf('early', { createdAt: '2026-02-01T00:00:00.000Z' }))
    catalog.saveVariant(variantOf('fp32', { createdAt: '2026-04-01T00:00:00.000Z' }))
    catalog.saveVariant(variantOf('elsewhere', { id: 'm:2:elsewhere', version: '2' }))
    expect(catalog.variants('m', '1').map(({ name }) => name)).toEqual(['fp32', 'early', 'late'])
    expect(catalog.variants('m', '2').map(({ name }) => name)).toEqual(['elsewhere'])
    expect(catalog.variants('m', '3')).toEqual([])
  })

  it('gives out frozen objects, the same list until something changes', () => {
    const catalog = open()
    catalog.saveVariant(variantOf('fp32', { profile: profileOn('here') }))
    const variants = catalog.variants('m', '1')
    expect(catalog.variants('m', '1')).toBe(variants)
    expect(() => Object.assign(variants[0]!, { state: 'rejected' })).toThrow(TypeError)
    expect(() => Object.assign(variants[0]!.profile!, { loadMs: 0 })).toThrow(TypeError)
    catalog.setPinned('m:1:fp32', true)
    expect(catalog.variants('m', '1')).not.toBe(variants)
    expect(variants[0]?.pinned).toBe(false)
  })

  it('shows a profile only on the machine it was taken on, and keeps that of each', () => {
    const here = open('here')
    here.saveVariant(variantOf('fp32', { profile: profileOn('here', 1) }))
    expect(here.variant('m:1:fp32')?.profile).toEqual(profileOn('here', 1))
    const there = restarted('there')
    expect(there.variant('m:1:fp32')?.profile).toBeUndefined()
    there.saveProfile('m:1:fp32', profileOn('there', 7))
    expect(there.variant('m:1:fp32')?.profile).toEqual(profileOn('there', 7))
    expect(restarted('here').variant('m:1:fp32')?.profile).toEqual(profileOn('here', 1))
  })

  it('does not show a profile that came from another machine', () => {
    const catalog = open('here')
    catalog.saveVariant(variantOf('fp32', { profile: profileOn('there') }))
    expect(catalog.variant('m:1:fp32')?.profile).toBeUndefined()
  })

  it('keeps the measurements of an artifact when its variant is entered again', () => {
    const catalog = open()
    catalog.saveVariant(variantOf('fp32', { profile: profileOn('here') }))
    catalog.saveVariant(variantOf('fp32'))
    expect(catalog.variant('m:1:fp32')?.profile).toEqual(profileOn('here'))
    catalog.saveVariant(variantOf('fp32', { digest: 'another file' }))
    expect(catalog.variant('m:1:fp32')?.profile).toBeUndefined()
  })

  it('tells listeners of every change, until they stop', () => {
    const catalog = open()
    const changes: CatalogChange[] = []
    const stop = catalog.onChange((change) => changes.push(change))
    catalog.saveVariant(variantOf('fp32'))
    catalog.setPinned('m:1:fp32', true)
    catalog.saveProfile('m:1:fp32', profileOn('here'))
    catalog.setState('m:1:fp32', 'quarantined', 'why')
    catalog.deleteVariant('m:1:fp32')
    catalog.deleteVariant('m:1:fp32')
    stop()
    catalog.saveVariant(variantOf('fp32'))
    expect(changes.map(({ id }) => id)).toEqual(Array(5).fill('m:1:fp32'))
    expect(changes.map(({ variant }) => [variant?.pinned, variant?.profile !== undefined, variant?.state])).toEqual([
      [false, false, 'ready'],
      [true, false, 'ready'],
      [true, true, 'ready'],
      [true, true, 'quarantined'],
      [undefined, false, undefined],
    ])
  })

  it('names the variant that does not exist', () => {
    const catalog = open()
    for (const change of [
      () => catalog.setPinned('m:1:no', true),
      () => catalog.setState('m:1:no', 'ready', ''),
      () => catalog.saveProfile('m:1:no', profileOn('here')),
    ])
      expect(change).toThrow(expect.objectContaining({ code: 'variant_not_found', message: expect.stringContaining('m:1:no') as string }))
  })

  it('remembers what was found out about files', () => {
    const catalog = open()
    catalog.saveInspection('d', 'here', { signature: { batchable: true } })
    catalog.saveDigest('/models/m/1/model.onnx', 'stamp 1', 'd')
    const again = restarted()
    expect(again.inspection('d', 'here')).toEqual({ signature: { batchable: true } })
    expect(again.inspection('d', 'there')).toBeUndefined()
    expect(again.knownDigest('/models/m/1/model.onnx', 'stamp 1')).toBe('d')
    expect(again.knownDigest('/models/m/1/model.onnx', 'stamp 2')).toBeUndefined()
  })

  it.each([
    ['no database', (path: string) => writeFileSync(path, 'this is no database, and long enough that nobody takes it for an empty one')],
    [
      'of another schema',
      (path: string) => {
        const database = new Database(path)
        database.exec('PRAGMA user_version = 99')
        database.close()
      },
    ],
    [
      'damaged inside',
      (path: string) => {
        const bytes = readFileSync(path)
        bytes.fill(0xa5, 100)
        writeFileSync(path, bytes)
      },
    ],
  ])('moves a file aside that is %s, says so, and begins anew', (_, spoil) => {
    open().saveVariant(variantOf('fp32'))
    opened.pop()?.close()
    // Else the write-ahead log would heal the damage.
    const database = new Database(file)
    database.exec('PRAGMA wal_checkpoint(TRUNCATE)')
    database.close()
    spoil(file)
    const spoiled = readFileSync(file)
    const warnings: string[] = []
    const catalog = open('here', (message) => warnings.push(message))
    expect(catalog.allVariants()).toEqual([])
    const aside = readdirSync(join(folder, 'deep')).find((name) => name.startsWith('catalog.db.damaged-') && !/-(wal|shm)$/.test(name))
    expect(readFileSync(join(folder, 'deep', aside!))).toEqual(spoiled)
    expect(warnings).toEqual([expect.stringContaining(aside!)])
    catalog.saveVariant(variantOf('int8'))
    expect(
      restarted()
        .allVariants()
        .map(({ name }) => name),
    ).toEqual(['int8'])
    expect(existsSync(file)).toBe(true)
  })
})
