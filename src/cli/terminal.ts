// Where the command line writes: text, colours and bars for a person at a terminal, one JSON object a
// line for a program. Commands ask `terminal.interactive` and never look at streams themselves.
import { SingleBar } from 'cli-progress'

const STYLES = { bold: [1, 22], dim: [2, 22], red: [31, 39], green: [32, 39], yellow: [33, 39], cyan: [36, 39] } as const

/** Of a stream that does not say. */
const DEFAULT_COLUMNS = 80

export type Style = keyof typeof STYLES

export interface Terminal {
  /** True when a person reads the output: text and bars; false: JSON lines. */
  readonly interactive: boolean
  /** Characters a line. */
  readonly columns: number
  /** One line of text on standard output. */
  print(text: string): void
  /** One line of JSON on standard output. */
  json(value: unknown): void
  /** One line on standard error. */
  complain(text: string): void
  paint(style: Style, text: string): string
  /** A bar from 0 to 1; draws nothing where output is not a terminal. */
  bar(): ProgressBar
}

export interface ProgressBar {
  update(fraction: number, step: string, etaS?: number): void
  stop(): void
}

export interface TerminalOptions {
  /** JSON lines even on a terminal. */
  json?: boolean
  environment?: Readonly<Record<string, string | undefined>>
  stdout?: NodeJS.WriteStream
  stderr?: NodeJS.WriteStream
}

/** `NO_COLOR` (https://no-color.org) turns colours off when set to anything but the empty string. */
export function openTerminal({ json = false, environment = process.env, stdout = process.stdout, stderr = process.stderr }: TerminalOptions = {}): Terminal {
  const interactive = stdout.isTTY && !json
  const colours = interactive && !environment['NO_COLOR'] && environment['TERM'] !== 'dumb'
  return {
    interactive,
    columns: stdout.columns || DEFAULT_COLUMNS,
    print: (text) => void stdout.write(`${text}\n`),
    json: (value) => void stdout.write(`${JSON.stringify(value)}\n`),
    complain: (text) => void stderr.write(`${text}\n`),
    paint: (style, text) => (colours && text !== '' ? `\x1b[${STYLES[style][0]}m${text}\x1b[${STYLES[style][1]}m` : text),
    bar: () => (interactive ? drawnBar(stderr) : { update: () => {}, stop: () => {} }),
  }
}

function drawnBar(stream: NodeJS.WriteStream): ProgressBar {
  const bar = new SingleBar({
    stream,
    format: '{bar} {percentage} % | {step}{eta}',
    barCompleteChar: '█',
    barIncompleteChar: '░',
    barsize: 30,
    hideCursor: true,
    clearOnComplete: true,
    formatValue: (value, _options, type) => (type === 'percentage' ? String(value).padStart(3) : String(value)),
  })
  bar.start(1, 0, { step: 'waiting', eta: '' })
  return {
    update: (fraction, step, etaS) => bar.update(fraction, { step, eta: etaS === undefined ? '' : ` | ${Math.ceil(etaS)} s left` }),
    stop: () => bar.stop(),
  }
}
