// The static checks, as a list of commands that do not depend on each other. `npm run lint` runs them
// all; `npm test` runs them before the tests.
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { prepare, root } from './setup.mjs'

const bin = (name) => join(root, 'node_modules', '.bin', process.platform === 'win32' ? `${name}.cmd` : name)

export const checks = [
  { name: 'types of src, build', command: process.execPath, args: [join(root, 'scripts', 'build.mjs')] },
  { name: 'types of tests', command: bin('tsc'), args: ['-p', 'tsconfig.tests.json'] },
  { name: 'dependency rules', command: bin('depcruise'), args: ['--config', '.dependency-cruiser.cjs', '--output-type', 'err-long', 'src'] },
  { name: 'unused code', command: bin('knip'), args: ['--no-progress', '--no-config-hints'] },
  { name: 'lint', command: bin('oxlint'), args: ['--type-aware', '--quiet'] },
  { name: 'format', command: bin('biome'), args: ['format', '--colors=off'] },
  { name: 'line budget', command: process.execPath, args: [join(root, 'scripts', 'line-budget.mjs')] },
]

/**
 * Runs steps `width` at a time, printing each one's duration, and its output where it fails or warns.
 * @returns names of the failed steps
 */
export async function runAll(steps, width = 2) {
  const waiting = [...steps]
  const failed = []
  const worker = async () => {
    for (let step = waiting.shift(); step !== undefined; step = waiting.shift()) {
      const { code, output, seconds } = await runStep(step)
      if (code !== 0) failed.push(step.name)
      console.log(`${code === 0 ? '✓' : '✗'} ${step.name} (${seconds.toFixed(1)} s)`)
      if (output !== '' && (code !== 0 || step.name === 'line budget')) console.log(output.replace(/^/gm, '    '))
    }
  }
  await Promise.all(Array.from({ length: width }, worker))
  return failed
}

function runStep({ command, args }) {
  return new Promise((resolve) => {
    const start = performance.now()
    let output = ''
    const child = spawn(command, args, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'], shell: command.endsWith('.cmd') })
    const done = (code) => resolve({ code, output: output.trim(), seconds: (performance.now() - start) / 1000 })
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (output += chunk))
    child.once('error', (error) => {
      output += error.message
      done(1)
    })
    child.once('close', (code) => done(code ?? 1))
  })
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await prepare({ compile: false })
  const failed = await runAll(checks)
  process.exit(failed.length === 0 ? 0 : 1)
}
