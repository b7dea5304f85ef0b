import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { parseDevices } from '#flyweight/shard/device-spec.js'
import { StageDevices } from '#flyweight/shard/stage-devices.js'
import type { StageHost } from '#flyweight/shard/stage-host.js'

class FakeHost implements StageHost {
  readonly name: string
  readonly close = vi.fn<() => Promise<void>>(() => Promise.resolve())
  lose: (reason: string) => void = () => {}

  constructor(name: string) {
    this.name = name
  }
  load = () => Promise.reject(new Error('not here'))
  run = () => Promise.reject(new Error('not here'))
  unload = () => Promise.resolve()
  onLost(listener: (reason: string) => void): () => void {
    this.lose = listener
    return () => {}
  }
}

describe('parseDevices', () => {
  it.each([
    ['cpu:0', 'cpu:0', undefined],
    ['cpu:12=64MiB', 'cpu:12', 64 * 2 ** 20],
    ['webgpu:0=1.5gb', 'webgpu:0', 1.5e9],
    ['grpc://127.0.0.1:8081=1000', 'grpc://127.0.0.1:8081', 1000],
    ['grpc://[::1]:8081', 'grpc://[::1]:8081', undefined],
  ])('reads %s', (text, name, budgetBytes) => expect(parseDevices([text])).toEqual([{ name, budgetBytes }]))

  it.each(['cpu', 'cpu:a', 'grpc://node', 'http://node:1', '', 'cpu:0=', 'cpu:0=0', 'cpu:0=64MXB', 'cpu:0=-1'])('refuses %j', (text) =>
    expect(() => parseDevices([text])).toThrow('/sharding/devices has'),
  )

  it('refuses a device twice', () => expect(() => parseDevices(['cpu:0', 'cpu:0=1MiB'])).toThrow('name cpu:0 twice'))
})

describe('StageDevices', () => {
  beforeEach(() => {
    vi.useFakeTimers()
  })
  afterEach(() => {
    vi.useRealTimers()
  })

  it('opens all, and opens again what was lost or did not answer, until it does', async () => {
    const opened: FakeHost[] = []
    let answers = false
    const open = vi.fn<(name: string) => Promise<FakeHost>>((name) => {
      if (name === 'grpc://node:1' && !answers) return Promise.reject(new Error('nobody there'))
      opened.push(new FakeHost(name))
      return Promise.resolve(opened.at(-1)!)
    })
    const [onOpened, onLost] = [vi.fn<(host: StageHost) => void>(), vi.fn<(name: string, reason: string) => void>()]
    const devices = new StageDevices({ devices: parseDevices(['cpu:0=10', 'grpc://node:1']), open, onOpened, onLost })
    await devices.tried
    expect(devices.live()).toEqual([{ name: 'cpu:0', budgetBytes: 10 }])
    expect([devices.fault('cpu:0'), devices.fault('grpc://node:1'), devices.fault('cpu:1')]).toEqual(['', 'nobody there', 'it is not in sharding.devices'])

    answers = true
    await vi.advanceTimersByTimeAsync(2000)
    expect(devices.host('grpc://node:1')).toBe(opened[1])
    opened[0]!.lose('it fell')
    expect(onLost).toHaveBeenCalledWith('cpu:0', 'it fell')
    expect(devices.host('cpu:0')).toBeUndefined()
    expect(opened[0]!.close).toHaveBeenCalled()
    await vi.advanceTimersByTimeAsync(2000)
    expect(devices.host('cpu:0')).toBe(opened[2])
    expect(onOpened).toHaveBeenCalledTimes(3)

    await devices.close()
    opened[2]!.lose('closed')
    await vi.advanceTimersByTimeAsync(10_000)
    expect(open).toHaveBeenCalledTimes(4)
  })

  it('closes a host that opens after all was closed', async () => {
    const host = new FakeHost('cpu:0')
    let answer: (host: StageHost) => void = () => {}
    const devices = new StageDevices({ devices: parseDevices(['cpu:0']), open: () => new Promise((resolve) => (answer = resolve)) })
    await devices.close()
    answer(host)
    await devices.tried
    expect(host.close).toHaveBeenCalled()
    expect(devices.live()).toEqual([])
  })
})
