// What `npm start` and `npm test` have in common: a Node new enough, dependencies as the lockfile
// says, and a build that matches src/. Plain JavaScript without dependencies: it runs before any is there.
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'

export const root = fileURLToPath(new URL('..', import.meta.url))
const at = (...parts) => join(root, ...parts)

/** All of it; exits with a message where one of the steps fails. `compile: false` leaves out the build. */
export async function prepare({ compile = true } = {}) {
  requireNode()
  try {
    await install()
    if (compile) await build()
  } catch (error) {
    console.error(error.message)
    process.exit(1)
  }
}

/** Exits with a clear message where Node is older than package.json's "engines" asks for. */
function requireNode() {
  const wanted = JSON.parse(readFileSync(at('package.json'), 'utf8')).engines.node.replace(/[^\d.]/g, '')
  const older = compareVersions(process.versions.node, wanted) < 0
  if (!older) return
  console.error(`Flyweight needs Node ${wanted} or newer; this is ${process.versions.node} (${process.execPath}).`)
  process.exit(1)
}

/** Installs from the lockfile unless node_modules already holds what it lists, for this platform. */
async function install() {
  const platform = `${process.platform}-${process.arch}`
  const stampFile = at('node_modules', '.flyweight-lock')
  const stamp = readOptional(stampFile)
  if (stamp === stampOf(platform)) return
  const otherPlatform = stamp !== undefined && !stamp.startsWith(`${platform} `)
  if (otherPlatform || !installedMatchesLockfile()) {
    console.log('installing…')
    await npm(['ci', '--no-audit', '--no-fund', '--loglevel=error'])
  }
  writeFileSync(stampFile, stampOf(platform))
}

/** Changes with the lockfile and with whatever npm does to node_modules. */
function stampOf(platform) {
  const record = readOptional(at('node_modules', '.package-lock.json'))
  return `${platform} ${hash([readFileSync(at('package-lock.json')), record ?? ''])}\n`
}

/** Compiles src/ to dist/ unless the last successful build was of the same sources; removes outputs of deleted sources. */
async function build() {
  const sources = filesUnder(at('src')).filter((file) => file.endsWith('.ts'))
  const inputs = [...sources, at('tsconfig.json'), at('package-lock.json')]
  const stamp = `${hash(inputs.flatMap((file) => [relative(root, file), readFileSync(file)]))}\n`
  const stampFile = at('dist', '.source-hash')
  const outputs = sources.map((file) => at('dist', relative(at('src'), file).replace(/\.ts$/, '.js')))
  if (readOptional(stampFile) === stamp && outputs.every((file) => existsSync(file))) return
  console.log('building…')
  mkdirSync(at('dist'), { recursive: true })
  rmSync(stampFile, { force: true })
  // tsc's incremental state does not notice that an output was deleted.
  if (!outputs.every((file) => existsSync(file))) rmSync(at('dist', '.tsbuildinfo'), { force: true })
  removeStale(new Set(outputs))
  await node([at('node_modules', 'typescript', 'bin', 'tsc'), '-p', at('tsconfig.json')])
  writeFileSync(stampFile, stamp)
}

/** True where every package of the lockfile is in node_modules at its version, by npm's own record of the last install. */
function installedMatchesLockfile() {
  const record = readOptional(at('node_modules', '.package-lock.json'))
  if (record === undefined) return false
  const installed = JSON.parse(record).packages
  const wanted = JSON.parse(readFileSync(at('package-lock.json'), 'utf8')).packages
  const missing = Object.entries(wanted).some(([path, { version, optional, devOptional }]) => {
    if (path === '' || optional || devOptional) return false
    return installed[path]?.version !== version || !existsSync(at(path))
  })
  const changed = Object.entries(installed).some(([path, { version }]) => wanted[path]?.version !== version)
  return !missing && !changed
}

function removeStale(outputs) {
  for (const file of filesUnder(at('dist'))) {
    if (/\.js(\.map)?$/.test(file) && !outputs.has(file.replace(/\.map$/, ''))) rmSync(file)
  }
}

function filesUnder(directory) {
  return readdirSync(directory, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .sort()
}

function hash(chunks) {
  const sha = createHash('sha256')
  for (const chunk of chunks) sha.update(chunk).update('\0')
  return sha.digest('hex')
}

function readOptional(file) {
  return existsSync(file) ? readFileSync(file, 'utf8') : undefined
}

function compareVersions(a, b) {
  const [left, right] = [a, b].map((version) => version.split('.').map(Number))
  const place = left.findIndex((part, index) => part !== (right[index] ?? 0))
  return place === -1 ? 0 : left[place] - (right[place] ?? 0)
}

/** Runs npm, in the root unless `cwd` says otherwise. It sets npm_execpath for the scripts it runs; without it, npm is looked up in the path. */
export async function npm(args, { cwd = root } = {}) {
  const cli = process.env['npm_execpath']
  if (cli?.endsWith('.js')) await node([cli, ...args], { cwd })
  else await run('npm', args, { cwd, shell: process.platform === 'win32' })
}

async function node(args, options) {
  await run(process.execPath, args, options)
}

function run(command, args, options = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd: root, stdio: 'inherit', ...options })
    child.once('error', reject)
    child.once('exit', (code, signal) => {
      if (code === 0) resolve()
      else reject(new Error(`${[command, ...args].join(' ')} ended with ${signal ?? `code ${code}`}`))
    })
  })
}
