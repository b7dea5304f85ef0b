// The threads of pipelines: one a stage and replica, with a channel between any two stages of a replica.
import { MessageChannel, Worker, type MessagePort } from 'node:worker_threads'
import type { FromStage } from './messages.js'
import type { StageEvents, StageLink, Stages } from './stages.js'

/** How long a thread may take to end; one stuck inside a native call ends when that call does. */
const END_TIMEOUT_MS = 2000

export function threadStages({ stages, replicas }: { stages: number; replicas: number }): Stages {
  const links: StageLink[] = []
  const exits: Promise<void>[] = []
  let events: StageEvents | undefined
  for (let replica = 0; replica < replicas; replica++) {
    const ports = channels(stages)
    for (const [stage, peers] of ports.entries()) {
      const worker = new Worker(new URL('./stage-worker.js', import.meta.url), {
        name: `stage-${replica}-${stage}`,
        execArgv: [],
        workerData: { peers },
        transferList: [...peers.values()],
      })
      const link: StageLink = { stage, replica, send: (message, moved = []) => worker.postMessage(message, moved) }
      let failure: string | undefined
      worker.on('message', (message: FromStage) => events?.message(link, message))
      worker.on('error', (error) => {
        failure = error.message
      })
      exits.push(
        new Promise((resolve) => {
          worker.on('exit', (code) => {
            events?.lost(link, failure ?? `its thread exited with code ${code}`)
            resolve()
          })
        }),
      )
      links.push(link)
    }
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

/** By stage, its ends of the channels to all others. */
function channels(stages: number): Map<number, MessagePort>[] {
  const ports = Array.from({ length: stages }, () => new Map<number, MessagePort>())
  for (let one = 0; one < stages; one++) {
    for (let other = one + 1; other < stages; other++) {
      const { port1, port2 } = new MessageChannel()
      ports[one]?.set(other, port1)
      ports[other]?.set(one, port2)
    }
  }
  return ports
}
