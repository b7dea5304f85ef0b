// Runs autocannon, one cell a message, in a process of its own so that it shares no event loop with
// what it measures or with the harness.
import autocannon from 'autocannon'

process.on('message', (cell) => void run(cell))
process.on('disconnect', () => process.exit(0))

async function run({ url, headers, bodyBase64, connections, seconds }) {
  const result = await autocannon({ url, method: 'POST', headers, body: Buffer.from(bodyBase64, 'base64'), connections, duration: seconds, timeout: 30 })
  process.send({
    requestsPerSecond: result['2xx'] / result.duration,
    p50Ms: result.latency.p50,
    p99Ms: result.latency.p99,
    failures: result.errors + result.timeouts + result.non2xx,
    answered: result['2xx'],
  })
}
