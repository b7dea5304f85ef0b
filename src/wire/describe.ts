// Words for error messages: what a value of a request is, in a few words and never its whole content.
// Leaves it to the callers to say what was expected.

const LONGEST = 40

/** `5`, `"abc"`, `an array of 3`, `an object`: short, and safe for values of any size and depth. */
export function describe(value: unknown): string {
  if (value === undefined) return 'nothing'
  if (Array.isArray(value)) return `an array of ${value.length}`
  if (typeof value === 'object' && value !== null) return 'an object'
  if (typeof value === 'string') return JSON.stringify(value.length <= LONGEST ? value : `${value.slice(0, LONGEST)}…`)
  return String(value)
}

/** Shape as error messages show it: free dimensions by their name, or `?`. */
export function shapeText(dims: readonly (number | string)[]): string {
  return `[${dims.map((dim) => (dim === -1 ? '?' : dim)).join(', ')}]`
}

/** One step of a JSON pointer (RFC 6901). */
export function pointerToken(name: string | number): string {
  return String(name).replaceAll('~', '~0').replaceAll('/', '~1')
}
