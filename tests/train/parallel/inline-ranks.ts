// Ranks on the thread of the test, so that it sees every message, and says who joins and who is lost when.
import type { FromRank, ToRank } from '#flyweight/train/parallel/messages.js'
import { runRank } from '#flyweight/train/parallel/rank.js'
import type { RankEvents, RankLink, Ranks } from '#flyweight/train/parallel/ranks.js'

export interface InlineRanks extends Ranks {
  add(id: string): void
  /** Its messages do not arrive any more, in both directions. */
  lose(id: string): void
  /** All messages so far: to a rank by its name, from it behind an arrow. */
  readonly log: { link: string; message: ToRank | FromRank }[]
  onMessage: (link: string, message: ToRank | FromRank) => void
}

export function inlineRanks(count: number): InlineRanks {
  const links = new Set<RankLink>()
  let events: RankEvents | undefined
  const connect = (id: string) => {
    let deliver: ((message: ToRank) => void) | undefined
    // Later and in order, as between threads, and cloned: nobody sees what the other does to its vectors.
    const later = (work: () => void) => void setImmediate(() => links.has(link) && work())
    const link: RankLink = {
      id,
      send: (message) => {
        const sent = structuredClone(message)
        ranks.log.push({ link: id, message: sent })
        if (message.kind === 'stop') setImmediate(() => deliver?.(sent))
        else later(() => deliver?.(sent))
        ranks.onMessage(id, sent)
      },
    }
    runRank({
      send: (message) => {
        const sent = structuredClone(message)
        later(() => {
          ranks.log.push({ link: id, message: sent })
          ranks.onMessage(id, sent)
          if (links.has(link)) events?.message(link, sent)
        })
      },
      listen: (onMessage) => {
        deliver = onMessage
      },
      close: () => links.delete(link),
    })
    links.add(link)
    return link
  }
  const ranks: InlineRanks = {
    links,
    log: [],
    onMessage: () => {},
    listen: (given) => {
      events = given
    },
    add: (id) => events?.join(connect(id)),
    lose: (id) => {
      const link = [...links].find((one) => one.id === id) as RankLink
      links.delete(link)
      events?.leave(link, 'the test took it away')
    },
    release: async () => {
      events = undefined
      for (const link of links) link.send({ kind: 'stop' })
    },
  }
  for (let index = 0; index < count; index++) connect(`rank-${index}`)
  return ranks
}
