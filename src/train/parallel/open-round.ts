// A round under way: adds up what its members send, hands out the sums, and ends when all are done.
import type { FromRank, Vector } from './messages.js'
import type { RankLink } from './ranks.js'
import { makeAllTheSum } from './sums.js'

export type Done = Extract<FromRank, { kind: 'done' }>
type Bucket = Extract<FromRank, { kind: 'bucket' }>

export class OpenRound {
  readonly number: number
  readonly members: readonly RankLink[]
  /** What each member was left with, in the order of members. */
  readonly result: Promise<Done[]>
  readonly #buckets = new Map<string, Map<RankLink, Vector>>()
  readonly #done = new Map<RankLink, Done>()
  #settle!: { resolve: (done: Done[]) => void; reject: (error: Error) => void }

  constructor(number: number, members: readonly RankLink[]) {
    this.number = number
    this.members = members
    this.result = new Promise((resolve, reject) => {
      this.#settle = { resolve, reject }
    })
  }

  receive(link: RankLink, message: Exclude<FromRank, { kind: 'ready' | 'failed' }>): void {
    if (message.round !== this.number || !this.members.includes(link)) return
    if (message.kind === 'bucket') return this.#add(link, message)
    if (message.kind !== 'done') return
    this.#done.set(link, message)
    if (this.#done.size === this.members.length) this.#settle.resolve(this.members.map((member) => this.#done.get(member) as Done))
  }

  /** Ends the round without a result. */
  fail(error: Error): void {
    this.#settle.reject(error)
  }

  #add(link: RankLink, { step, bucket, vector, exact }: Bucket): void {
    const key = `${step}:${bucket}`
    const arrived = this.#buckets.get(key) ?? new Map<RankLink, Vector>()
    this.#buckets.set(key, arrived.set(link, vector))
    if (arrived.size < this.members.length) return
    this.#buckets.delete(key)
    // In the order of members, whoever was first: all get the same bits, every time.
    const vectors = this.members.map((member) => arrived.get(member) as Vector)
    makeAllTheSum(vectors)
    const answer = { kind: 'reduced', round: this.number, step, bucket, ...(exact === undefined ? {} : { exact }) } as const
    for (const [index, member] of this.members.entries()) member.send({ ...answer, vector: vectors[index] as Vector })
  }
}
