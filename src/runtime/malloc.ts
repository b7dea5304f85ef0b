// glibc keeps freed memory unless told otherwise: without these settings the resident size of a
// process stays at its highest after models are unloaded. They are read once, before a process
// starts, so the launcher re-executes itself with them and every child gets them.

/**
 * Blocks of 4 MiB and more are mapped, in huge pages (glibc 2.35), so freeing them gives them back to the system at once:
 * most of a large model. Smaller ones come from what was freed before, of which 16 MiB are kept: the runtime allocates
 * every output anew, and fresh pages would fault one by one as they are written, which takes longer than to compute many.
 */
export const mallocEnvironment: Readonly<Record<string, string>> = {
  MALLOC_MMAP_THRESHOLD_: '4194304',
  MALLOC_TRIM_THRESHOLD_: '16777216',
  GLIBC_TUNABLES: withHugePages(process.env['GLIBC_TUNABLES'] ?? ''),
}

/** Keeps what the operator has set. */
function withHugePages(tunables: string): string {
  if (tunables.includes('glibc.malloc.hugetlb')) return tunables
  return [...(tunables === '' ? [] : [tunables]), 'glibc.malloc.hugetlb=1'].join(':')
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
