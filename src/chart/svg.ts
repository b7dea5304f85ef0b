// SVG as text: elements, escaping, and how wide text will be. Knows no chart.

type Attributes = Readonly<Record<string, string | number | undefined>>

/** What XML 1.0 forbids even as a character reference: controls, noncharacters, lone surrogates. */
// oxlint-disable-next-line no-control-regex
const FORBIDDEN = /[\u0000-\u0008\u000B\u000C\u000E-\u001F\uFFFE\uFFFF]|\p{Cs}/gu
const ENTITIES: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' }
/** Characters that fixed-width fonts draw two columns wide: https://www.unicode.org/reports/tr11/ */
const WIDE = /[\u1100-\u115F\u2E80-\uA4CF\uAC00-\uD7A3\uF900-\uFAFF\uFE30-\uFE6F\uFF00-\uFF60\uFFE0-\uFFE6]|\p{Extended_Pictographic}/u
/** Advance of a character in widths of the font size; the widest of the common fixed-width fonts. */
const ADVANCE = 0.61

/** Text for element content and attribute values alike. */
export function escapeXml(text: string): string {
  return text.replace(FORBIDDEN, '\uFFFD').replace(/[&<>"']/g, (character) => ENTITIES[character] as string)
}

/** One element; `children` are elements, and text that was escaped. Numbers are rounded to 0.01 of a unit. */
export function element(name: string, attributes: Attributes, ...children: readonly string[]): string {
  const written = Object.entries(attributes)
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => ` ${key}="${typeof value === 'number' ? Number(value.toFixed(2)) : escapeXml(value ?? '')}"`)
    .join('')
  return children.length === 0 ? `<${name}${written}/>` : `<${name}${written}>${children.join('')}</${name}>`
}

/** One line of text, escaped; `y` is its base line. */
export function text(x: number, y: number, content: string, style?: string): string {
  return element('text', { x, y, class: style }, escapeXml(content))
}

export interface StyledLine {
  class: string
  x1: number
  y1: number
  x2: number
  y2: number
}

export function line({ class: style, x1, y1, x2, y2 }: StyledLine): string {
  return element('line', { class: style, x1, y1, x2, y2 })
}

/** Upper bound of the width of text in a fixed-width font of `size`. */
export function textWidth(text: string, size: number): number {
  let columns = 0
  for (const character of text) columns += WIDE.test(character) ? 2 : 1
  return columns * size * ADVANCE
}
