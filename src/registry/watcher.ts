// Watches the repository's folder and says which model changed. Files that are still being written are
// waited for, bursts become one report. What to do about a change is the repository's business.
import { relative, sep } from 'node:path'
import { watch } from 'chokidar'
import { isModelName, isVersion } from './model-folder.js'

/** After the last event of a model, this long until it is reported. */
const QUIET_MS = 150
/** A file whose size did not change for so long is written. */
const STABLE_MS = 300
/** Below the root: the model, its version, the version's files. */
const DEPTH = 2

export interface WatcherOptions {
  onChange: (model: string) => void
  /** Called once, when everything that is there is watched: what changed before was not reported. */
  onReady: () => void
  onError: (error: unknown) => void
}

export interface Watcher {
  close(): Promise<void>
}

export function watchModels(root: string, { onChange, onReady, onError }: WatcherOptions): Watcher {
  const timers = new Map<string, NodeJS.Timeout>()
  const partsOf = (path: string) => relative(root, path).split(sep)
  const watcher = watch(root, {
    ignoreInitial: true,
    depth: DEPTH,
    awaitWriteFinish: { stabilityThreshold: STABLE_MS, pollInterval: 100 },
    ignored: (path) => {
      const [model = '', inside, ...rest] = partsOf(path)
      if (model === '') return false
      return !isModelName(model) || (rest.length > 0 && !isVersion(inside ?? ''))
    },
  })
  watcher.on('all', (event, path) => {
    const [model = ''] = partsOf(path)
    // A new folder says nothing yet: its files are reported when they are written.
    if (event === 'addDir' || !isModelName(model)) return
    clearTimeout(timers.get(model))
    const report = () => {
      timers.delete(model)
      onChange(model)
    }
    timers.set(model, setTimeout(report, QUIET_MS).unref())
  })
  watcher.on('ready', onReady)
  watcher.on('error', onError)
  return {
    close: async () => {
      for (const timer of timers.values()) clearTimeout(timer)
      await watcher.close()
    },
  }
}
