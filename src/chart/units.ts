// Units as people read them, in tables and charts alike.

/** `10.8 MB`, with decimal prefixes as disks and the README use them. */
export function bytes(count: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB']
  const power = count < 1 ? 0 : Math.min(Math.floor(Math.log10(count) / 3), units.length - 1)
  const value = count / 1000 ** power
  return `${power === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[power]}`
}

/** A latency ratio: below 1 is faster. */
export function ratio(value: number): string {
  return `${value.toFixed(2)}×`
}
