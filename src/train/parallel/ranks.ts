// The ranks of a training, as an interface: threads of this process, or machines that are reached over a network. Messages
// to and from one rank arrive in the order they were sent.
import type { FromRank, ToRank } from './messages.js'

export interface RankLink {
  /** For people. */
  readonly id: string
  /** It is a thread of this process. */
  readonly sharesMemory?: true
  /** Vectors of the message may be moved: the caller does not use them any more. Does nothing for a rank that has left. */
  send(message: ToRank): void
}

export interface RankEvents {
  /** A rank that takes part from now on: it is in `links`. */
  join(link: RankLink): void
  message(link: RankLink, message: FromRank): void
  /** It is gone for good, and not in `links` any more. Whether a silent rank is gone is the transport's judgement. */
  leave(link: RankLink, reason: string): void
}

export interface Ranks {
  /** Those present now, in the order they joined. */
  readonly links: ReadonlySet<RankLink>
  /** Called once, before anything is sent; events come never before the caller's own code has ended. */
  listen(events: RankEvents): void
  /** Sends ranks away, and ends those that live for this training alone. */
  release(): Promise<void>
}
