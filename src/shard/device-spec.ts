// Devices as the configuration names them: `cpu:0`, `webgpu:0`, `grpc://node:8081`, each with the bytes of weights
// that it may hold after `=`, as in `cpu:0=64MiB`.
import { FlyweightError } from '../errors.js'

export interface DeviceSpec {
  name: string
  /** Of weights; undefined: any. */
  budgetBytes: number | undefined
}

const UNITS: Readonly<Record<string, number>> = { '': 1, KB: 1e3, MB: 1e6, GB: 1e9, KIB: 2 ** 10, MIB: 2 ** 20, GIB: 2 ** 30 }

/** @throws FlyweightError `invalid_config` for what is no device, no size, or named twice */
export function parseDevices(texts: readonly string[]): DeviceSpec[] {
  const specs = texts.map(parseDevice)
  const names = specs.map(({ name }) => name)
  const twice = names.find((name, index) => names.indexOf(name) !== index)
  if (twice !== undefined) throw new FlyweightError('invalid_config', `/sharding/devices name ${twice} twice, expected each device once`)
  return specs
}

function parseDevice(text: string): DeviceSpec {
  const [name = '', size] = text.split('=', 2)
  if (!/^((cpu|webgpu|cuda|tensorrt):\d+|grpc:\/\/[^\s/]+:\d+)$/.test(name)) {
    throw new FlyweightError(
      'invalid_config',
      `/sharding/devices has "${text}", expected cpu:0, webgpu:0, cuda:0, tensorrt:0 or grpc://host:port, and =64MiB for a budget`,
    )
  }
  if (size === undefined) return { name, budgetBytes: undefined }
  const [, number, unit = ''] = /^(\d+(?:\.\d+)?)([kmg]i?b)?$/i.exec(size) ?? []
  const budgetBytes = number === undefined ? 0 : Math.floor(Number(number) * UNITS[unit.toUpperCase()]!)
  if (budgetBytes < 1) throw new FlyweightError('invalid_config', `/sharding/devices has the budget "${size}" for ${name}, expected bytes, e.g. 64MiB`)
  return { name, budgetBytes }
}
