// Plain text tables and the units in them. Pure: returns lines, prints nothing.
import { wrap } from '../chart/wrap.js'

export interface Column<Row> {
  head: string
  cell(row: Row): string
  align?: 'left' | 'right'
  /** Its text goes on in the next line where the table would get too wide; such cells have no colours. */
  wraps?: boolean
}

const ANSI = new RegExp(`${String.fromCharCode(27)}\\[\\d+m`, 'g')
const GAP = 2
/** A column that wraps gets no narrower. */
const LEAST_WIDTH = 12

/** Lines of a table: a head, then one line a row; columns as wide as their longest cell. @param width of the terminal, for columns that wrap */
export function table<Row>(columns: readonly Column<Row>[], rows: readonly Row[], width = Infinity): string[] {
  const cells = [columns.map(({ head }) => head), ...rows.map((row) => columns.map(({ cell }) => cell(row)))]
  const widths = columns.map((_, index) => Math.max(...cells.map((line) => widthOf(line[index] ?? ''))))
  const wrapping = columns.findIndex(({ wraps }) => wraps === true)
  const room = width - widths.reduce((sum, own, index) => (index === wrapping ? sum : sum + own + GAP), 0)
  const wrapped = cells.map((line) => line.map((text, index) => (index === wrapping ? wrap(text, Math.max(LEAST_WIDTH, room)) : [text])))
  if (wrapping >= 0) widths[wrapping] = Math.max(...wrapped.flatMap((line) => (line[wrapping] ?? []).map(widthOf)))
  return wrapped.flatMap((parts) =>
    Array.from({ length: Math.max(...parts.map(({ length }) => length)) }, (_, row) =>
      parts
        .map((texts, index) => pad(texts[row] ?? '', widths[index] ?? 0, columns[index]?.align ?? 'left'))
        .join(' '.repeat(GAP))
        .trimEnd(),
    ),
  )
}

function widthOf(text: string): number {
  return Array.from(text.replace(ANSI, '')).length
}

function pad(text: string, width: number, align: 'left' | 'right'): string {
  const space = ' '.repeat(Math.max(0, width - widthOf(text)))
  return align === 'left' ? text + space : space + text
}

/** Milliseconds with three significant digits: `0.123`, `4.56`, `789`. */
export function milliseconds(value: number): string {
  if (value === 0) return '0'
  return value >= 100 ? String(Math.round(value)) : value.toPrecision(3)
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
