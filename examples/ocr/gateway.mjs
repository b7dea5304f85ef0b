// The gateway the example talks to: the one that runs, or one of its own that ends with it.
import { spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

/** Resolves to the address and how to stop what was started. `url` must answer; without it one is started. */
export async function reachGateway(url) {
  if (url !== undefined) {
    await fetch(`${url}/readyz`)
    return { url, stop: async () => {} }
  }
  const data = await mkdtemp(join(tmpdir(), 'flyweight-example-'))
  const script = fileURLToPath(new URL('../../scripts/start.mjs', import.meta.url))
  const child = spawn(process.execPath, [script, '--no-banner', '--port', '0', '--data', data], { stdio: ['ignore', 'pipe', 'inherit'] })
  const exited = new Promise((resolve) => child.once('exit', resolve))
  const address = await new Promise((resolve, reject) => {
    child.once('exit', (code) => reject(new Error(`the gateway ended with code ${code} before it was ready`)))
    createInterface({ input: child.stdout }).on('line', (line) => {
      const entry = line.startsWith('{') ? JSON.parse(line) : {}
      if (entry.msg === 'ready') resolve(entry.address)
    })
  })
  return {
    url: address,
    stop: async () => {
      child.kill('SIGINT')
      await exited
      await rm(data, { recursive: true, force: true })
    },
  }
}

/** GET or POST of JSON; throws with the gateway's own words when it refuses. */
export async function call(url, body) {
  const response = await fetch(url, body === undefined ? {} : { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) })
  const answer = await response.json()
  if (!response.ok) throw new Error(`${url}: ${response.status} ${answer.detail ?? answer.error ?? ''}`)
  return answer
}

/** Waits for `find` to give something other than undefined. */
export async function eventually(find, what, seconds = 120) {
  for (let waited = 0; waited < seconds * 10; waited++) {
    const found = await find()
    if (found !== undefined) return found
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  throw new Error(`${what}: nothing after ${seconds} s`)
}
