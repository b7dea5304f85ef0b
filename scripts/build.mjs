// `npm run build`: compiles src/ to dist/ if anything changed.
import { build, install, requireNode } from './setup.mjs'

requireNode()
try {
  await install()
  await build()
} catch (error) {
  console.error(error.message)
  process.exit(1)
}
