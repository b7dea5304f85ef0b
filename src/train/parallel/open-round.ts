// A round under way: adds up what its members send, hands out the sums, and ends when all are done.
import type { FromRank, Vector } from './messages.js'
import type { RankLink } from './ranks.js'
import { concatenated } from './shards.js'
import { makeAllTheSum } from './sums.js'

export type Done = Extract<FromRank, { kind: 'done' }>
type Bucket = Extract<FromRank, { kind: 'bucket' }>
type Slice = Extract<FromRank, { kind: 'slice' }>

export class OpenRound {
  readonly number: number
  readonly members: readonly RankLink[]
  /** What each member was left with, in the order of members. */
  readonly result: Promise<Done[]>
  /** Vectors of which not all have come, by what they are of. */
  readonly #arrived = new Map<string, Map<RankLink, Vector>>()
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
    if (message.kind === 'slice') return this.#gather(link, message)
    this.#done.set(link, message)
    if (this.#done.size === this.members.length) this.#settle.resolve(this.members.map((member) => this.#done.get(member) as Done))
  }

  /** Ends the round without a result. */
  fail(error: Error): void {
    this.#settle.reject(error)
  }

  #add(link: RankLink, { step, bucket, vector, exact }: Bucket): void {
    const vectors = this.#complete(`${step}:${bucket}`, link, vector)
    if (vectors === undefined) return
    makeAllTheSum(vectors)
    const answer = { kind: 'reduced', round: this.number, step, bucket, ...(exact === undefined ? {} : { exact }) } as const
    for (const [index, member] of this.members.entries()) member.send({ ...answer, vector: vectors[index] as Vector })
  }

  #gather(link: RankLink, { step, vector }: Slice): void {
    const slices = this.#complete(`${step}:gathered`, link, vector)
    if (slices === undefined) return
    for (const member of this.members) member.send({ kind: 'gathered', round: this.number, step, vector: concatenated(slices) })
  }

  /** The vectors of all members, once the last has come: in the order of members, so that sums have the same bits every time. */
  #complete(key: string, link: RankLink, vector: Vector): Vector[] | undefined {
    const arrived = this.#arrived.get(key) ?? new Map<RankLink, Vector>()
    this.#arrived.set(key, arrived.set(link, vector))
    if (arrived.size < this.members.length) return undefined
    this.#arrived.delete(key)
    return this.members.map((member) => arrived.get(member) as Vector)
  }
}
