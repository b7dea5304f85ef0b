#!/usr/bin/env node
// The command line's entry: runs one command and turns its outcome into an exit code: 0 done, 1 failed,
// 2 wrong usage. The commands are in cli/.
import { FlyweightError, messageOf } from './errors.js'
import { run } from './cli/program.js'

try {
  process.exitCode = await run(process.argv)
} catch (error) {
  process.exitCode = 1
  process.stderr.write(`error: ${messageOf(error)}\n`)
  if (error instanceof FlyweightError) for (const { pointer, detail } of error.errors) process.stderr.write(`  ${pointer}: ${detail}\n`)
  else if (process.env['LOG_LEVEL'] === 'debug' && error instanceof Error) process.stderr.write(`${error.stack}\n`)
}
// A gateway that has drained has nothing left to do; timers of its libraries must not keep it.
if (process.argv[2] === 'serve') process.exit()
