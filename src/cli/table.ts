// Plain text tables and the units in them. Pure: returns lines, prints nothing.

export interface Column<Row> {
  head: string
  cell(row: Row): string
  align?: 'left' | 'right'
}

const ANSI = new RegExp(`${String.fromCharCode(27)}\\[\\d+m`, 'g')

/** Lines of a table: a head, then one line a row; columns as wide as their longest cell. */
export function table<Row>(columns: readonly Column<Row>[], rows: readonly Row[]): string[] {
  const cells = [columns.map(({ head }) => head), ...rows.map((row) => columns.map(({ cell }) => cell(row)))]
  const widths = columns.map((_, index) => Math.max(...cells.map((line) => widthOf(line[index] ?? ''))))
  return cells.map((line) =>
    line
      .map((text, index) => pad(text, widths[index] ?? 0, columns[index]?.align ?? 'left'))
      .join('  ')
      .trimEnd(),
  )
}

function widthOf(text: string): number {
  return Array.from(text.replace(ANSI, '')).length
}

function pad(text: string, width: number, align: 'left' | 'right'): string {
  const space = ' '.repeat(Math.max(0, width - widthOf(text)))
  return align === 'left' ? text + space : space + text
}

/** `10.8 MB`, with decimal prefixes as disks and the README use them. */
export function bytes(count: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB']
  const power = count < 1 ? 0 : Math.min(Math.floor(Math.log10(count) / 3), units.length - 1)
  const value = count / 1000 ** power
  return `${power === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[power]}`
}

/** Milliseconds with three significant digits: `0.123`, `4.56`, `789`. */
export function milliseconds(value: number): string {
  if (value === 0) return '0'
  return value >= 100 ? String(Math.round(value)) : value.toPrecision(3)
}

/** A latency ratio in words: below 1 is faster. */
export function ratio(value: number): string {
  return `${value.toFixed(2)}×`
}

const SIZE_UNITS: Readonly<Record<string, number>> = {
  '': 1,
  B: 1,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
  KIB: 2 ** 10,
  MIB: 2 ** 20,
  GIB: 2 ** 30,
  TIB: 2 ** 40,
}

/** Bytes of `512MB`, `1.5GiB` or `1000000`; undefined when it is none of these. */
export function parseBytes(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)\s*([a-z]*)$/i.exec(text.trim())
  const unit = SIZE_UNITS[(match?.[2] ?? '?').toUpperCase()]
  return match?.[1] === undefined || unit === undefined ? undefined : Math.round(Number(match[1]) * unit)
}
