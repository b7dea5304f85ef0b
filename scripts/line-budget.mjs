// Keeps source files readable in one sitting: past 300 lines a file asks to be split, past 400 the check fails.
import { readdirSync, readFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { root } from './setup.mjs'

const asks = 300
const fails = 400

let failed = false
for (const entry of readdirSync(join(root, 'src'), { withFileTypes: true, recursive: true })) {
  if (!entry.isFile() || !entry.name.endsWith('.ts')) continue
  const file = join(entry.parentPath, entry.name)
  const lines = readFileSync(file, 'utf8').trimEnd().split('\n').length
  if (lines <= asks) continue
  const verdict = lines > fails ? `more than ${fails}: split it` : `more than ${asks}: consider splitting it`
  console.log(`${relative(root, file)} has ${lines} lines, ${verdict}`)
  failed ||= lines > fails
}
process.exit(failed ? 1 : 0)
