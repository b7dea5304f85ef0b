// Every change that ai.onnx made to an operator from version 8 to 21 is either known to be compatible or has a
// rule. The fixture lists operator → versions, taken from ONNX's docs/Changelog.md.
import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { compatibleChanges, unchangedOperators } from '#flyweight/onnx/upgrade/changes.js'
import { upgradeRules } from '#flyweight/onnx/upgrade/opset.js'

const versions = JSON.parse(readFileSync(new URL('../fixtures/operator-versions.json', import.meta.url), 'utf8')) as Record<string, number[]>
const changes = Object.entries(versions).flatMap(([operator, [, ...later]]) =>
  later.filter((version) => version > 7).map((version) => `${operator}-${version}`),
)

describe('the table of changes', () => {
  it('classifies every change of the changelog exactly once', () => {
    const rules = Object.keys(upgradeRules).filter((change) => change !== 'Upsample-9' && change !== 'Upsample-10')
    for (const change of rules) expect(compatibleChanges.has(change), `${change} is compatible and has a rule`).toBe(false)
    const classified = [...compatibleChanges, ...Object.keys(upgradeRules)].sort()
    expect(classified).toEqual(changes.sort())
  })

  it('knows the operators that never changed', () => {
    const changed = new Set(changes.map((change) => change.split('-')[0]))
    const never = Object.keys(versions).filter((operator) => !changed.has(operator))
    expect([...unchangedOperators].sort()).toEqual([...never, 'SimplifiedLayerNormalization'].sort())
  })
})
