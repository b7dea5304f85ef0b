// The bench's figures as Markdown, and where they go in a document. Pure.

const HEAD = ['recipe', 'seconds', 'peak memory', 'bytes', '÷ fp32', 'time ÷ fp32', 'fidelity', 'as fp32', 'accuracy', 'verdict']

/**
 * Lines about one model: a sentence about fp32, then a row a recipe, with a dash for each figure that it lacks.
 * `batches` ascend; `accuracy` is fp32's.
 */
export function modelTable({ batches, metric, accuracy, rows }) {
  const first = rows.find(({ sourceMs }) => sourceMs !== undefined)
  const facts = [
    ...(first === undefined ? [] : [megabytes(first.sourceBytes), `${batches.map((batch) => first.sourceMs[batch]?.toFixed(2) ?? '–').join(' / ')} ms a run`]),
    ...(accuracy === undefined ? [] : [`${percent(accuracy)} ${metric}`]),
  ]
  return [
    `fp32 at batch ${batches.join(' / ')}: ${facts.join('; ')}.`,
    '',
    ...[HEAD, HEAD.map(() => '---'), ...rows.map((row) => cells(row, batches))].map(
      (line) => `| ${line.map((cell) => String(cell ?? '–').replaceAll('|', '\\|')).join(' | ')} |`,
    ),
  ]
}

function cells({ recipe, seconds, peakMiB, bytes, sourceBytes, ratios, fidelity, agreement, accuracy, verdict }, batches) {
  return [
    `\`${recipe}\``,
    seconds?.toFixed(1),
    peakMiB && `${peakMiB.toFixed(0)} MiB`,
    bytes && megabytes(bytes),
    bytes && (bytes / sourceBytes).toFixed(2),
    ratios && batches.map((batch) => ratios[batch]?.toFixed(2) ?? '–').join(' / '),
    fidelity?.toFixed(4),
    agreement === undefined ? undefined : percent(agreement),
    accuracy === undefined ? undefined : percent(accuracy),
    verdict,
  ]
}

/**
 * `text` with the lines between `<!-- bench NAME -->` and `<!-- end -->` replaced.
 * @throws Error where the document has no such place
 */
export function replaceSection(text, name, lines) {
  const open = `<!-- bench ${name} -->`
  const start = text.indexOf(open)
  const end = text.indexOf('<!-- end -->', start)
  if (start === -1 || end === -1) throw new Error(`the document has no place for ${name}: expected ${open} and, below it, <!-- end -->`)
  return `${text.slice(0, start + open.length)}\n${lines.join('\n')}\n${text.slice(end)}`
}

function megabytes(bytes) {
  return `${(bytes / 1e6).toFixed(2)} MB`
}

function percent(share) {
  return `${(100 * share).toFixed(1)} %`
}
