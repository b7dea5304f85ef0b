// The stages of a training's pipelines, as an interface. Messages to and from one stage arrive in the order they were sent.
import type { FromStage, ToStage } from './messages.js'

export interface StageLink {
  stage: number
  replica: number
  /** Buffers of `moved` are not the sender's any more. */
  send(message: ToStage, moved?: readonly ArrayBuffer[]): void
}

export interface StageEvents {
  message(link: StageLink, message: FromStage): void
  /** It has ended by itself. */
  lost(link: StageLink, reason: string): void
}

export interface Stages {
  /** All stages of one replica, then those of the next. */
  readonly links: readonly StageLink[]
  /** Called once, before anything is sent. */
  listen(events: StageEvents): void
  release(): Promise<void>
}
