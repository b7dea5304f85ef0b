// The bench's tables, and how they get into a document.
import { describe, expect, it } from 'vitest'
import { modelTable, replaceSection } from '../../bench/table.mjs'

const row = {
  recipe: 'int8-static(exclude=a|b)',
  seconds: 1.23,
  peakMiB: 512.4,
  bytes: 25e5,
  sourceBytes: 1e7,
  sourceMs: { 1: 2, 8: 12 },
  ratios: { 1: 0.5, 8: 0.456 },
  fidelity: 0.98765,
  agreement: 0.99,
  accuracy: 0.985,
  verdict: 'admitted',
}

describe('the table of a model', () => {
  it('says what fp32 does and gives a row a recipe, a failure included', () => {
    const table = modelTable({ batches: [1, 8], metric: 'digits told right', accuracy: 0.992, rows: [row, { recipe: 'int4', verdict: 'it failed' }] })
    expect(table[0]).toBe('fp32 at batch 1 / 8: 10.00 MB; 2.00 / 12.00 ms a run; 99.2 % digits told right.')
    expect(table[4]).toBe('| `int8-static(exclude=a\\|b)` | 1.2 | 512 MiB | 2.50 MB | 0.25 | 0.50 / 0.46 | 0.9877 | 99.0 % | 98.5 % | admitted |')
    expect(table[5]).toBe('| `int4` | – | – | – | – | – | – | – | – | it failed |')
  })
})

describe('a place in a document', () => {
  const document = 'before\n<!-- bench a -->\nold\n<!-- end -->\nbetween\n<!-- bench b -->\n<!-- end -->\nafter\n'

  it('gets its lines, and the rest stays as it was', () => {
    const changed = replaceSection(replaceSection(document, 'a', ['new']), 'b', ['1', '2'])
    expect(changed).toBe('before\n<!-- bench a -->\nnew\n<!-- end -->\nbetween\n<!-- bench b -->\n1\n2\n<!-- end -->\nafter\n')
    expect(replaceSection(changed, 'a', ['new'])).toBe(changed)
  })

  it('must exist', () => {
    expect(() => replaceSection(document, 'c', [])).toThrow('no place for c')
  })
})
