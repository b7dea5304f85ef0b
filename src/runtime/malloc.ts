// glibc keeps freed memory unless told otherwise: without these settings the resident size of a
// process stays at its highest after models are unloaded. They are read once, before a process
// starts, so the launcher re-executes itself with them and every child gets them.

/** 128 KiB: larger blocks are mapped, so freeing them gives them back to the system at once. */
export const mallocEnvironment: Readonly<Record<string, string>> = {
  MALLOC_MMAP_THRESHOLD_: '131072',
  MALLOC_TRIM_THRESHOLD_: '131072',
}

/**
 * V8 counts memory outside of its heap towards the limit at which it collects garbage, and starts from a limit of a
 * few MiB: with requests and answers of a megabyte it would collect eight times a second, for a heap of 26 MiB.
 */
export const heapFlags: readonly string[] = ['--initial-old-space-size=128']

/** True when a process started with `environment` returns unloaded memory; always true where glibc is not used. */
export function isTuned(environment: Readonly<Record<string, string | undefined>>): boolean {
  if (process.platform !== 'linux') return true
  return Object.keys(mallocEnvironment).every((name) => environment[name] !== undefined)
}
