// Drives one cell a message, in a process of its own so that it shares no event loop with what it
// measures or with the harness: by autocannon, or by http-driver.mjs where answers are large.
import autocannon from 'autocannon'
import { drive } from './http-driver.mjs'

/** Parsing an answer of 1 MB costs autocannon about 10 ms of a core, node:http about 1 ms. */
const LARGE_ANSWER_BYTES = 64 * 1024
const TIMEOUT_S = 30

process.on('message', (cell) => void run(cell))
process.on('disconnect', () => process.exit(0))

async function run({ url, headers, bodyBase64, connections, seconds }) {
  const body = Buffer.from(bodyBase64, 'base64')
  const first = await fetch(url, { method: 'POST', headers, body })
  const large = (await first.arrayBuffer()).byteLength > LARGE_ANSWER_BYTES
  process.send(await (large ? byHttp : byAutocannon)({ url, headers, body, connections, seconds }))
}

async function byAutocannon(cell) {
  const result = await autocannon({ ...cell, method: 'POST', duration: cell.seconds, timeout: TIMEOUT_S })
  return {
    requestsPerSecond: result['2xx'] / result.duration,
    p50Ms: result.latency.p50,
    p99Ms: result.latency.p99,
    failures: result.errors + result.timeouts + result.non2xx,
    answered: result['2xx'],
  }
}

async function byHttp(cell) {
  const { duration, answered, failures, latencies } = await drive({ ...cell, timeoutMs: TIMEOUT_S * 1000 })
  const at = (share) => Math.round(latencies[Math.min(latencies.length - 1, Math.floor(latencies.length * share))] ?? 0)
  return { requestsPerSecond: answered / duration, p50Ms: at(0.5), p99Ms: at(0.99), failures, answered }
}
