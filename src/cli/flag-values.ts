// Values of flags: what text they take, and what is said to any other.
import { InvalidArgumentError } from 'commander'
import { parseBytes } from './table.js'

const LONGEST_BUDGET_S = 86_400

export function integer(text: string): number {
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError('expected a whole number')
  return Number(text)
}

export function atLeastOne(text: string): number {
  if (!/^[1-9]\d*$/.test(text)) throw new InvalidArgumentError('expected a whole number from 1 on')
  return Number(text)
}

export function positive(text: string): number {
  const value = Number(text)
  if (!(value > 0)) throw new InvalidArgumentError('expected a number above 0')
  return value
}

export function fraction(text: string): number {
  const value = Number(text)
  if (!(value >= 0 && value <= 1) || text.trim() === '') throw new InvalidArgumentError('expected a number from 0 to 1')
  return value
}

export function budget(text: string): number {
  const seconds = Number(text)
  if (text.trim() === '' || !(seconds >= 1 && seconds <= LONGEST_BUDGET_S)) throw new InvalidArgumentError(`expected seconds from 1 to ${LONGEST_BUDGET_S}`)
  return seconds
}

export function svgFile(text: string): string {
  if (!/.\.svg$/i.test(text)) throw new InvalidArgumentError('expected the name of an .svg file')
  return text
}

export function size(text: string): number {
  const value = parseBytes(text)
  if (value === undefined) throw new InvalidArgumentError('expected bytes, e.g. 512MB or 1.5GiB')
  return value
}

export function rows(text: string): { from: number; count: number } {
  const match = /^(\d+)(?::(\d+))?$/.exec(text)
  const count = Number(match?.[2] ?? 1)
  if (match === null || count === 0) throw new InvalidArgumentError('expected from:count, e.g. 0:1')
  return { from: Number(match[1]), count }
}
