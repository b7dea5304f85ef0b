// Stages on the thread of the test: quick to begin, and it sees what they keep.
import type { Handover, ToStage } from '#flyweight/train/pipeline/messages.js'
import { runStage } from '#flyweight/train/pipeline/stage.js'
import type { StageEvents, StageLink, Stages } from '#flyweight/train/pipeline/stages.js'

export interface InlineStages extends Stages {
  /** Its messages do not arrive any more. */
  lose(stage: number): void
  /** Tensors handed from stage to stage, as `from → to: name`. */
  readonly handed: Set<string>
}

export function inlineStages({ stages, replicas }: { stages: number; replicas: number }): InlineStages {
  let events: StageEvents | undefined
  const gone = new Set<number>()
  const handed = new Set<string>()
  const links: StageLink[] = []
  for (let replica = 0; replica < replicas; replica++) {
    const inboxes: ((message: Handover) => void)[] = []
    for (let stage = 0; stage < stages; stage++) {
      let deliver: ((message: ToStage) => void) | undefined
      // Later and in order, as between threads, and cloned, so that moved buffers are gone.
      const later = (work: () => void) => void setImmediate(() => !gone.has(stage) && work())
      const link: StageLink = {
        stage,
        replica,
        send: (message, moved = []) => {
          const sent = structuredClone(message, { transfer: [...moved] })
          later(() => deliver?.(sent))
        },
      }
      runStage({
        send: (message, moved = []) => {
          const sent = structuredClone(message, { transfer: [...moved] })
          later(() => events?.message(link, sent))
        },
        hand: (to, message, moved) => {
          for (const name of Object.keys(message.tensors)) handed.add(`${stage} → ${to}: ${name}`)
          const sent = structuredClone(message, { transfer: [...moved] })
          later(() => inboxes[to]?.(sent))
        },
        listen: ({ onMessage, onHandover }) => {
          deliver = onMessage
          inboxes[stage] = onHandover
        },
        close: () => {},
      })
      links.push(link)
    }
  }
  return {
    links,
    handed,
    listen: (given) => {
      events = given
    },
    lose: (stage) => {
      gone.add(stage)
      events?.lost(links[stage] as StageLink, 'the test took it away')
    },
    release: async () => {
      events = undefined
      for (const link of links) link.send({ kind: 'stop' })
    },
  }
}
