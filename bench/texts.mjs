// Lines of text to render: words, numbers, codes and punctuation, by a seed. No two lines are the same.

const WORDS =
  'about account address after amount animal answer article autumn balance because bottle branch bread bridge building camera candle castle change chapter Charles church circle coffee colour common copper corner country Daniel delivery Denmark desert dinner doctor double Dublin eagle early east eight engine English evening example family February figure finish flower forest Friday garden gentle glass golden ground half hammer happy harbour Helsinki history hotel hundred island January journey kettle kitchen knife language letter library light London machine Madrid March market Martin measure meeting middle minute Monday morning mountain museum music near nine north number October office orange order Oslo packet paper Paris pencil people picture pocket Prague price printer project quarter question quick rabbit railway rain receipt river Robert Rome second seven shadow silver simple sister south station stone street summer Sunday supper table thirty ticket tower train under valley Vienna village Warsaw water week west window winter wonder yellow young Zurich'.split(
    ' ',
  )

/** Makes lines of `shortest` to `longest` characters by `random`, never one that is in `taken`, to which each is added. */
export function lineMaker(random, { shortest = 6, longest = 22, taken = new Set() } = {}) {
  const below = (limit) => Math.floor(random() * limit)
  const pick = (list) => list[below(list.length)]
  const letters = (count) => Array.from({ length: count }, () => String.fromCharCode(65 + below(26))).join('')
  const word = () => pick([(text) => text, (text) => text, (text) => text[0].toUpperCase() + text.slice(1), (text) => text.toUpperCase()])(pick(WORDS))
  const parts = [
    word,
    word,
    word,
    word,
    () => String(below(10_000)),
    () => `${below(1000)}.${10 + below(90)}`,
    () => `${1 + below(9)},${100 + below(900)}`,
    () => `${below(24)}:${10 + below(50)}`,
    () => `${1 + below(28)}/${1 + below(12)}/20${10 + below(20)}`,
    () => `${letters(2)}-${100 + below(900)}`,
    () => `${below(100)}%`,
    () => `(${word()})`,
    () => `#${below(1000)}`,
    () => `$${below(500)}`,
    () => `${word()}!`,
    () => `${word()}?`,
    () => `${pick(WORDS).toLowerCase()}@${pick(WORDS).toLowerCase()}.org`,
  ]
  return () => {
    for (;;) {
      const line = Array.from({ length: 1 + below(4) }, () => pick(parts)()).join(pick([' ', ' ', ' ', ', ', ' - ', ': ', ' & ']))
      if (line.length < shortest || line.length > longest || taken.has(line)) continue
      taken.add(line)
      return line
    }
  }
}
