// Text in lines of at most so many characters. Recipes have no spaces, so it breaks after what joins their parts too.

/** At least one line; a part without a place to break is cut. @param width in characters, at least 1 */
export function wrap(text: string, width: number): string[] {
  const lines: string[] = []
  let line: string[] = []
  for (const part of text.split(/(?<=[\s+,|(])/).map((each) => Array.from(each))) {
    // A space at the end of a line takes no room.
    const needed = part.at(-1)?.trim() === '' ? part.length - 1 : part.length
    if (line.length > 0 && line.length + needed > width) {
      lines.push(line.join(''))
      line = []
    }
    line.push(...part)
    while (line.length > width && line.join('').trimEnd().length > width) lines.push(line.splice(0, width).join(''))
  }
  return [...lines, line.join('')].map((each) => each.trimEnd()).filter((each, index) => each !== '' || index === 0)
}

/** The text, with `…` in place of what is beyond `width` characters. */
export function cutTo(text: string, width: number): string {
  const characters = Array.from(text)
  return characters.length <= width ? text : `${characters.slice(0, width - 1).join('')}…`
}
