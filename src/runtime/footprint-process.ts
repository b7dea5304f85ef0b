// The process behind measureFootprint: loads and runs one model, compares resident memory, ends.
// Started by fork, never imported.
import { messageOf } from '../errors.js'
import type { Footprint, FootprintMessage, FootprintTask } from './footprint.js'
import { openSession } from './session.js'
import { warmRuntime } from './warm-runtime.js'

process.once('message', (task: FootprintTask) => {
  void measure(task)
    .then((footprint): FootprintMessage => ({ footprint }))
    .catch((error: unknown): FootprintMessage => ({ error: messageOf(error) }))
    .then((message) => process.send?.(message, () => process.disconnect()))
})

async function measure({ file, feeds, device, threads }: FootprintTask): Promise<Footprint> {
  await warmRuntime(device)
  const before = process.memoryUsage.rss()
  const start = performance.now()
  const session = await openSession(file, { device, threads })
  const loadMs = performance.now() - start
  // The runtime plans its working memory in the first run and uses the plan in the second.
  await session.run(feeds)
  await session.run(feeds)
  return { residentBytes: Math.max(0, process.memoryUsage.rss() - before), loadMs }
}
