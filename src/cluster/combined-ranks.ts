// Ranks of several kinds as one group: threads of this process beside machines behind Redis.
import type { ToRank } from '../train/parallel/messages.js'
import type { RankLink, Ranks } from '../train/parallel/ranks.js'
import { asOverTheWire } from './frames.js'
import { travelsAsHalves } from './wire.js'

export function combineRanks(groups: readonly Ranks[]): Ranks {
  const present = new Set(groups.flatMap(({ links }) => [...links]))
  return {
    links: present,
    listen: (events) => {
      for (const group of groups) {
        group.listen({
          join: (link) => {
            present.add(link)
            events.join(link)
          },
          message: (link, message) => events.message(link, message),
          leave: (link, reason) => {
            present.delete(link)
            events.leave(link, reason)
          },
        })
      }
    },
    release: async () => void (await Promise.all(groups.map((group) => group.release()))),
  }
}

/** Ranks that get what ranks behind a wire of halves get, so that all of them compute the same bits. */
export function withHalves(ranks: Ranks): Ranks {
  const outer = new Map<RankLink, RankLink>()
  const links = new Set<RankLink>()
  const wrap = (link: RankLink): RankLink => {
    const wrapped: RankLink = { id: link.id, send: (message) => link.send(rounded(message)) }
    outer.set(link, wrapped)
    links.add(wrapped)
    return wrapped
  }
  for (const link of ranks.links) wrap(link)
  return {
    links,
    listen: (events) =>
      ranks.listen({
        join: (link) => events.join(wrap(link)),
        message: (link, message) => events.message(outer.get(link) as RankLink, message),
        leave: (link, reason) => {
          const wrapped = outer.get(link) as RankLink
          outer.delete(link)
          links.delete(wrapped)
          events.leave(wrapped, reason)
        },
      }),
    release: () => ranks.release(),
  }
}

function rounded(message: ToRank): ToRank {
  return message.kind === 'reduced' && travelsAsHalves(message) ? { ...message, vector: asOverTheWire(message.vector) } : message
}
