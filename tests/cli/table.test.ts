import { bytes } from '#flyweight/chart/units.js'
import { milliseconds, parseBytes, table } from '#flyweight/cli/table.js'
import { describe, expect, it } from 'vitest'

describe('table', () => {
  it('aligns columns by what is seen, not by colour codes', () => {
    const lines = table(
      [
        { head: 'name', cell: (row: { name: string; n: number }) => `\x1b[1m${row.name}\x1b[22m` },
        { head: 'n', cell: ({ n }) => String(n), align: 'right' as const },
      ],
      [
        { name: 'a', n: 1 },
        { name: 'long name', n: 1000 },
      ],
    )
    expect(lines).toEqual(['name          n', '\x1b[1ma\x1b[22m             1', '\x1b[1mlong name\x1b[22m  1000'])
  })

  it('goes on in the next line where a column that wraps would make it too wide', () => {
    const columns = [
      { head: 'recipe', cell: ({ recipe }: { recipe: string }) => recipe, wraps: true },
      { head: 'n', cell: () => '1', align: 'right' as const },
    ]
    const rows = [{ recipe: 'prune-channels+int8-static' }]
    expect(table(columns, rows, 20)).toEqual(['recipe           n', 'prune-channels+  1', 'int8-static'])
    expect(table(columns, rows)).toEqual(['recipe                      n', 'prune-channels+int8-static  1'])
  })

  it('prints only the head when there are no rows', () => {
    expect(table([{ head: 'name', cell: () => '' }], [])).toEqual(['name'])
  })
})

describe('units', () => {
  it.each([
    [0, '0 B'],
    [999, '999 B'],
    [1000, '1.0 kB'],
    [10_850_000, '10.8 MB'],
    [134e6, '134 MB'],
    [8e9, '8.0 GB'],
  ])('prints %d bytes as %s', (count, text) => {
    expect(bytes(count)).toBe(text)
  })

  it.each([
    [0.12345, '0.123'],
    [4.5678, '4.57'],
    [41.26, '41.3'],
    [789.4, '789'],
  ])('prints %d ms as %s', (value, text) => {
    expect(milliseconds(value)).toBe(text)
  })

  it.each([
    ['512MB', 512e6],
    ['1.5GiB', 1.5 * 2 ** 30],
    ['64 mib', 64 * 2 ** 20],
    ['1000', 1000],
  ])('reads %s', (text, count) => {
    expect(parseBytes(text)).toBe(count)
  })

  it.each(['', 'much', '12 parsecs', '-5MB', '1e9', '12?'])('refuses %j', (text) => {
    expect(parseBytes(text)).toBeUndefined()
  })
})
