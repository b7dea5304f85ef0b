// `npm start`: everything a fresh clone needs to run. Installs and builds where needed, then runs the
// gateway with the malloc settings already in its environment, so that it need not re-execute itself.
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { prepare, root } from './setup.mjs'

await prepare()

const { heapFlags, mallocEnvironment } = await import('../dist/runtime/malloc.js')
const gateway = spawn(process.execPath, [...heapFlags, join(root, 'dist', 'main.js'), 'serve', '--banner', ...process.argv.slice(2)], {
  cwd: root,
  // The channel carries nothing; that it closes tells the gateway that this process was killed.
  stdio: ['inherit', 'inherit', 'inherit', 'ipc'],
  env: { ...process.env, ...mallocEnvironment },
})

// npm and the terminal may both deliver the same key press; the gateway counts those that arrive together as one.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => gateway.kill(signal))
gateway.once('error', (error) => {
  console.error(`The gateway could not be started: ${error.message}`)
  process.exit(1)
})
gateway.once('exit', (code, signal) => {
  if (signal === null) process.exit(code)
  process.removeAllListeners(signal)
  process.kill(process.pid, signal)
})
