// Compressing a large model takes less than three times its size. The whole study is scripts/memory.mjs; this holds
// a smaller model, whose share of fixed costs is larger, to what it takes beside them.
import { execFileSync } from 'node:child_process'
import { expect, it } from 'vitest'

const recipes = ['int8-dynamic', 'int8-static', 'prune-weights', 'prune-weights+int8-static']

it.runIf(process.platform === 'linux')('takes less than three times the size of a model', { timeout: 120_000 }, () => {
  const rows = JSON.parse(execFileSync(process.execPath, ['scripts/memory.mjs', '--json', '134', ...recipes], { encoding: 'utf8' })) as {
    recipe: string
    bytes: number
    idle: number
    peak: number
  }[]
  expect(rows.map(({ recipe }) => recipe)).toEqual(recipes)
  for (const { recipe, bytes, idle, peak } of rows) expect((peak - idle) / bytes, recipe).toBeLessThan(2.9)
})
