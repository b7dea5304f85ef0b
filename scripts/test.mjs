// `npm test`: everything a fresh clone needs to be judged. Installs where needed, runs the static
// checks and the build, then the tests, and closes with one line of counts: `N passed, N failed`.
// Arguments go to vitest: `npm test -- tests/onnx` runs those files only, still after all checks.
import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { checks, runAll } from './checks.mjs'
import { prepare, root } from './setup.mjs'

await prepare({ compile: false })

const failedChecks = await runAll(checks)
const buildFailed = failedChecks.includes(checks[0].name)
if (buildFailed) console.log('The tests were not run: they test the built output, and the build failed.')
const tests = buildFailed ? { passed: 0, failed: 0, skipped: 0 } : await runTests(process.argv.slice(2))

if (failedChecks.length > 0) console.log(`\nFailed checks, each counted as one failure: ${failedChecks.join(', ')}`)
const failed = tests.failed + failedChecks.length
console.log(`\n${tests.passed} passed, ${failed} failed${tests.skipped > 0 ? `, ${tests.skipped} skipped` : ''}`)
process.exit(failed === 0 ? 0 : 1)

async function runTests(filters) {
  const start = performance.now()
  const directory = mkdtempSync(join(tmpdir(), 'flyweight-test-'))
  const reportFile = join(directory, 'report.json')
  try {
    const args = [join(root, 'node_modules', 'vitest', 'vitest.mjs'), 'run', '--reporter=default', '--reporter=json', `--outputFile.json=${reportFile}`]
    const code = await vitest([...args, ...filters])
    console.log(`${code === 0 ? '✓' : '✗'} tests (${((performance.now() - start) / 1000).toFixed(1)} s)`)
    return count(reportFile, code)
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

function vitest(args) {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, args, { cwd: root, stdio: 'inherit' })
    child.once('error', () => resolve(1))
    child.once('exit', (code) => resolve(code ?? 1))
  })
}

/** A file that fails to load, and a run that fails without a failed test (an unhandled error), count as one failure each. */
function count(reportFile, code) {
  try {
    const report = JSON.parse(readFileSync(reportFile, 'utf8'))
    const broken = report.testResults.filter(
      ({ status, assertionResults }) => status === 'failed' && assertionResults.every((test) => test.status !== 'failed'),
    )
    const failed = report.numFailedTests + broken.length
    return { passed: report.numPassedTests, failed: code !== 0 && failed === 0 ? 1 : failed, skipped: report.numPendingTests + report.numTodoTests }
  } catch (error) {
    console.error(`vitest left no report: ${error.message}`)
    return { passed: 0, failed: 1, skipped: 0 }
  }
}
