// The devices that hold stages: each is opened at the start, and again whenever it was lost, until it answers. Which
// stage goes where is not decided here (placement.ts).
import { messageOf } from '../errors.js'
import type { DeviceSpec } from './device-spec.js'
import type { StageHost } from './stage-host.js'

export interface StageDevicesOptions {
  devices: readonly DeviceSpec[]
  /** Opens one; rejects while it does not answer. */
  open(name: string): Promise<StageHost>
  onOpened?(host: StageHost): void
  /** After the stage host's own listeners of before: whoever has stages on it knows already. */
  onLost?(name: string, reason: string): void
}

/** Between attempts; doubling from the first to the second. */
const RETRY_MS = { first: 100, longest: 2000 }

interface Device {
  spec: DeviceSpec
  host: StageHost | undefined
  /** Why it is not there. */
  reason: string
  retryMs: number
  timer: NodeJS.Timeout | undefined
}

export class StageDevices {
  /** All of them, there or not. */
  readonly specs: readonly DeviceSpec[]
  readonly #options: StageDevicesOptions
  readonly #devices: ReadonlyMap<string, Device>
  #closed = false

  /** Settled when every device was tried once. Never rejects. */
  readonly tried: Promise<void>

  constructor(options: StageDevicesOptions) {
    this.#options = options
    this.specs = options.devices
    this.#devices = new Map(
      options.devices.map((spec) => [spec.name, { spec, host: undefined, reason: 'it was not opened yet', retryMs: RETRY_MS.first, timer: undefined }]),
    )
    this.tried = Promise.all([...this.#devices.values()].map((device) => this.#open(device))).then(() => {})
  }

  /** The device's host while it is there. */
  host(name: string): StageHost | undefined {
    return this.#devices.get(name)?.host
  }

  /** Those that are there, as the configuration has them. */
  live(): DeviceSpec[] {
    return [...this.#devices.values()].flatMap(({ spec, host }) => (host === undefined ? [] : [spec]))
  }

  /** Why a device is not there; empty when it is. */
  fault(name: string): string {
    const device = this.#devices.get(name)
    return device === undefined ? 'it is not in sharding.devices' : device.host === undefined ? device.reason : ''
  }

  /** Ends a device that hangs; another is opened in its place. */
  abandon(name: string, reason: string): void {
    const device = this.#devices.get(name)
    if (device?.host !== undefined) this.#lose(device, device.host, reason)
  }

  async close(): Promise<void> {
    this.#closed = true
    const devices = [...this.#devices.values()]
    for (const { timer } of devices) clearTimeout(timer)
    await Promise.all(devices.map(async ({ host }) => host?.close()))
  }

  async #open(device: Device): Promise<void> {
    let host: StageHost
    try {
      host = await this.#options.open(device.spec.name)
    } catch (error) {
      this.#retry(device, messageOf(error))
      return
    }
    if (this.#closed) return host.close()
    device.host = host
    host.onLost((reason) => this.#lose(device, host, reason))
    if (device.host !== host) return
    device.retryMs = RETRY_MS.first
    this.#options.onOpened?.(host)
  }

  #lose(device: Device, host: StageHost, reason: string): void {
    if (device.host !== host) return
    device.host = undefined
    void host.close()
    this.#options.onLost?.(device.spec.name, reason)
    this.#retry(device, reason)
  }

  #retry(device: Device, reason: string): void {
    device.reason = reason
    if (this.#closed) return
    device.timer = setTimeout(() => void this.#open(device), device.retryMs).unref()
    device.retryMs = Math.min(RETRY_MS.longest, device.retryMs * 2)
  }
}
