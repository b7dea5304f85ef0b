// The machine's name, and the memory settings a process must start with.
import { expect, test } from 'vitest'
import { cpuFeatures, listDevices, machineFingerprint } from '#flyweight/runtime/devices.js'
import { isTuned, mallocEnvironment } from '#flyweight/runtime/malloc.js'

test('a fingerprint is stable, readable, and differs by device and threads', () => {
  expect(machineFingerprint('cpu', 1)).toBe(machineFingerprint('cpu', 1))
  expect(machineFingerprint('cpu', 1)).toMatch(/^cpu-1t-[\w]+-[0-9a-f]{12}$/)
  const names = [machineFingerprint('cpu', 1), machineFingerprint('cpu', 2), machineFingerprint('webgpu:0', 1)]
  expect(new Set(names).size).toBe(3)
  expect(machineFingerprint('cpu:1', 1)).toBe(machineFingerprint('cpu', 1))
})

test('the CPU is always among the devices, with what it can do', () => {
  const cpu = listDevices().find(({ name }) => name === 'cpu')
  expect(cpu).toMatchObject({ bundled: true })
  for (const feature of cpuFeatures()) expect(cpu?.detail).toContain(feature)
})

test.runIf(process.platform === 'linux')('only a process started with all the settings counts as tuned', () => {
  expect(isTuned(mallocEnvironment)).toBe(true)
  expect(isTuned({})).toBe(false)
  expect(isTuned({ MALLOC_TRIM_THRESHOLD_: '16777216' })).toBe(false)
})
