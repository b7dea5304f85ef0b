// Tests import the built output through `#flyweight/…` (package.json "imports"): worker threads and
// forked processes need real files, and what is tested is what ships. `npm test` builds first.
import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['tests/**/*.test.ts'],
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 60_000,
    server: { deps: { external: [/\/dist\//] } },
  },
})
