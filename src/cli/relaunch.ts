// glibc reads its malloc settings before main() runs, so a process started without them starts itself
// again, once, with them set; the first process then only passes signals and the exit code through.
import { spawn } from 'node:child_process'
import { heapFlags, isTuned, mallocEnvironment } from '../runtime/malloc.js'

/** Resolves to undefined in a tuned process; otherwise to the exit code of the tuned copy of this process. */
export async function relaunchTuned(): Promise<number | undefined> {
  if (isTuned(process.env)) return undefined
  const child = spawn(process.execPath, [...heapFlags, ...process.execArgv, ...process.argv.slice(1)], {
    // The channel carries nothing; that it closes tells the copy that this process was killed.
    stdio: ['inherit', 'inherit', 'inherit', 'ipc'],
    env: { ...process.env, ...mallocEnvironment },
  })
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => child.kill(signal))
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    // 128 + signal number is what a shell reports; 1 stands for a signal this platform cannot name.
    child.once('exit', (code, signal) => resolve(code ?? (signal === 'SIGKILL' ? 137 : signal === 'SIGTERM' ? 143 : 1)))
  })
}
