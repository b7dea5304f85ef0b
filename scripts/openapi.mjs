// Writes docs/openapi.json from the routes' schemas; a test compares the committed copy. Needs a build.
// No services are needed: routes touch them only when they are called.
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { buildServer } from '../dist/http/server.js'
import { loadConfig } from '../dist/config.js'
import { createLogger } from '../dist/telemetry/logging.js'
import { root } from './setup.mjs'

const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
const server = buildServer({ config: loadConfig(), logger: createLogger({ level: 'silent' }), version })
await server.ready()
writeFileSync(join(root, 'docs', 'openapi.json'), `${JSON.stringify(server.swagger(), undefined, 2)}\n`)
await server.close()
