// Frames in parts: put together whatever comes between, and refused where one is missing.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { cutFrame, partJoiner, type Joined } from '#flyweight/cluster/parts.js'

const frame = fc.uint8Array({ maxLength: 100 }).map((bytes) => Buffer.from(bytes))

describe('parts of frames', () => {
  it('give the frames of each sender in order, however senders are mixed', () => {
    const senders = fc.array(fc.record({ name: fc.string(), frames: fc.array(frame, { maxLength: 5 }) }), { maxLength: 4 })
    fc.assert(
      fc.property(senders, fc.integer({ min: 1, max: 40 }), fc.infiniteStream(fc.nat()), (given, partBytes, choices) => {
        const queues = given.map(({ frames }, index) => frames.flatMap((one) => cutFrame(`${index}${given[index]?.name}`, one, partBytes)))
        const join = partJoiner()
        const joined: Joined[] = []
        while (queues.some(({ length }) => length > 0)) {
          const waiting = queues.filter(({ length }) => length > 0)
          const whole = join(waiting[(choices.next().value as number) % waiting.length]?.shift() as Buffer)
          if (whole !== undefined) joined.push(whole)
        }
        for (const [index, { name, frames }] of given.entries()) {
          expect(joined.filter(({ from }) => from === `${index}${name}`).map((one) => one.frame.toString('hex'))).toEqual(
            frames.map((one) => one.toString('hex')),
          )
        }
      }),
      { seed: 4 },
    )
  })

  it('are no larger than they may be, but for their heads', () => {
    expect(cutFrame('me', Buffer.alloc(100), 30).map(({ length }) => length)).toEqual([48, 48, 48, 28])
  })

  it('that are missing are noticed', () => {
    const [first, , third] = cutFrame('me', Buffer.alloc(100), 40) as [Buffer, Buffer, Buffer]
    const join = partJoiner()
    join(first)
    expect(() => join(third)).toThrow('got part 3 of 3 from me, expected part 2')
  })

  it('of a sender that was cut off do not spoil what it sends next', () => {
    const join = partJoiner()
    join(cutFrame('me', Buffer.alloc(100), 40)[0] as Buffer)
    expect(join(cutFrame('me', Buffer.from('hello'))[0] as Buffer)).toEqual({ from: 'me', frame: Buffer.from('hello') })
  })

  it('are told from other bytes', () => {
    expect(() => partJoiner()(Buffer.from('GET / HTTP/1.1\r\n'))).toThrow('got 16 bytes that are no part of a message')
    expect(() => partJoiner()((cutFrame('somebody', Buffer.alloc(0))[0] as Buffer).subarray(0, 20))).toThrow('end within the name of the sender')
  })
})
