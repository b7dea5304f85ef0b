// Ranks that are threads of this process.
import { Worker } from 'node:worker_threads'
import { handedOver, type FromRank } from './messages.js'
import type { RankEvents, RankLink, Ranks } from './ranks.js'

/** How long a thread may take to end; one stuck inside a native call ends when that call does. */
const END_TIMEOUT_MS = 2000

export function threadRanks(count: number): Ranks {
  const links = new Set<RankLink>()
  const exits: Promise<void>[] = []
  let events: RankEvents | undefined
  for (let index = 0; index < count; index++) {
    const id = `rank-${index}`
    const worker = new Worker(new URL('./rank-worker.js', import.meta.url), { name: id, execArgv: [] })
    const link: RankLink = { id, sharesMemory: true, send: (message) => worker.postMessage(message, handedOver(message)) }
    let failure: string | undefined
    worker.on('message', (message: FromRank) => events?.message(link, message))
    worker.on('error', (error) => {
      failure = error.message
    })
    exits.push(
      new Promise((resolve) => {
        worker.on('exit', (code) => {
          links.delete(link)
          events?.leave(link, failure ?? `its thread exited with code ${code}`)
          resolve()
        })
      }),
    )
    links.add(link)
  }
  return {
    links,
    listen: (given) => {
      events = given
    },
    // Not worker.terminate(): see Lane.close.
    release: async () => {
      events = undefined
      for (const link of links) link.send({ kind: 'stop' })
      let timer: NodeJS.Timeout | undefined
      const deadline = new Promise<void>((resolve) => {
        timer = setTimeout(resolve, END_TIMEOUT_MS)
      })
      await Promise.race([Promise.all(exits), deadline])
      clearTimeout(timer)
    },
  }
}
