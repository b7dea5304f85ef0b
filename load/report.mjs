// The figures of a run as a table with ratios, and the two promises they are held against.

const TWICE = 2
const LOOP_DELAY_MS = 20

/** Whether the promises hold: single-row binary throughput at 64 connections against the naive server, and the main loop's delay. */
export function verdicts({ models, plan }) {
  const connections = Math.max(...plan.connections)
  // Where a run takes microseconds, HTTP is all the work there is, and a queue and a lane can only add to it.
  const worthBatching = models.filter(({ variants }) => variants.find(({ name }) => name === 'fp32').latencies[0].p50Ms >= 1)
  const against = worthBatching.map(({ model, cells }) => {
    const rate = (subject) => cells.find((cell) => cell.subject === subject && cell.encoding === 'binary' && cell.connections === connections).requestsPerSecond
    const value = rate('gateway') / rate('naive')
    return { promise: `${model}, binary, ${connections} connections: at least ${TWICE}× the naive server`, value, met: value >= TWICE }
  })
  const delays = models.flatMap(({ cells }) => cells.filter((cell) => cell.encoding === 'binary' && cell.loopDelayP99Ms !== undefined))
  const worst = Math.max(...delays.map(({ loopDelayP99Ms }) => loopDelayP99Ms))
  const failures = models.flatMap(({ cells }) => cells.filter(({ subject }) => subject.startsWith('gateway'))).reduce((sum, cell) => sum + cell.failures, 0)
  return [
    ...against,
    { promise: `main-loop delay p99 below ${LOOP_DELAY_MS} ms in every binary cell`, value: worst, met: worst < LOOP_DELAY_MS },
    { promise: 'no request to the gateway failed', value: failures, met: failures === 0 },
  ]
}

export function printReport({ machine, models, verdicts: promises }) {
  console.log(`\n${machine.cpu}, ${machine.cores} cores, Node ${machine.node}, ${machine.runtime}; load generator on the same cores`)
  for (const { model, rowBytes, naiveThreads, cells } of models) {
    console.log(`\n${model}: one row a request, ${rowBytes} bytes; naive server with ${naiveThreads} threads (the faster choice)\n`)
    const head = ['encoding', 'conn.', 'server', 'requests/s', 'p50 ms', 'p99 ms', '÷ naive', '÷ echo', 'loop p99 ms', 'answered by']
    print([head, ...cells.map((cell) => row(cell, cells))])
  }
  console.log('')
  for (const { promise, value, met } of promises) console.log(`${met ? '✓' : '✗'} ${promise}: ${Number.isInteger(value) ? value : value.toFixed(2)}`)
  console.log('\nfigures in load/report.json')
}

function row(cell, cells) {
  const beside = (subject) =>
    cells.find((other) => other.subject === subject && other.encoding === cell.encoding && other.connections === cell.connections).requestsPerSecond
  const ours = cell.subject.startsWith('gateway')
  return [
    cell.encoding,
    String(cell.connections),
    cell.subject,
    cell.requestsPerSecond.toFixed(cell.requestsPerSecond < 100 ? 1 : 0),
    String(cell.p50Ms),
    String(cell.p99Ms),
    ours ? (cell.requestsPerSecond / beside('naive')).toFixed(2) : '',
    ours ? (cell.requestsPerSecond / beside('echo')).toFixed(2) : '',
    cell.loopDelayP99Ms === undefined ? '' : cell.loopDelayP99Ms.toFixed(1),
    shares(cell.variants),
  ]
}

function shares(variants = {}) {
  const total = Object.values(variants).reduce((sum, count) => sum + count, 0)
  return Object.entries(variants)
    .map(([name, count]) => `${name} ${Math.round((count / total) * 100)} %`)
    .join(', ')
}

function print(rows) {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((cells) => cells[column].length)))
  const numeric = (column) => column === 1 || (column >= 3 && column <= 8)
  for (const cells of rows) {
    console.log(
      cells
        .map((text, column) => (numeric(column) ? text.padStart(widths[column]) : text.padEnd(widths[column])))
        .join('  ')
        .trimEnd(),
    )
  }
}
