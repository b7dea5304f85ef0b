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

/** Any number in three significant digits or so: `0.0512`, `12.3`, `4801`, `1.2e-7`. */
export function figure(value: number): string {
  const size = Math.abs(value)
  const rounded = size >= 100 && size < 1e5 ? Math.round(value) : Number(value.toPrecision(3))
  return size !== 0 && (size < 1e-3 || size >= 1e5) ? power(rounded) : String(rounded)
}

/** As a power of ten: `1.2e-7`, `5e6`. */
export function power(value: number): string {
  return Number(value.toPrecision(6)).toExponential().replace('+', '')
}
