// `npm run build`: compiles src/ to dist/ if anything changed.
import { prepare } from './setup.mjs'

await prepare()
