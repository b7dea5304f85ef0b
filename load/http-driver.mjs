// A closed loop over node:http: each connection sends its next request when the last was answered. For
// answers so large that autocannon's parser, written in JavaScript, would take one of two cores.
import http from 'node:http'

/** The same figures as autocannon gives: `{ duration (s), answered, failures, latencies (ms, ascending) }`. */
export async function drive({ url, headers, body, connections, seconds, timeoutMs }) {
  const agent = new http.Agent({ keepAlive: true, maxSockets: connections })
  const latencies = []
  let failures = 0
  const start = performance.now()
  const loop = async () => {
    while (performance.now() - start < seconds * 1000) {
      const sentAt = performance.now()
      const status = await ask({ agent, url, headers, body, timeoutMs })
      // As autocannon does: what comes after the bell is not counted.
      if (performance.now() - start > seconds * 1000) break
      if (status >= 200 && status < 300) latencies.push(performance.now() - sentAt)
      else failures += 1
    }
  }
  await Promise.all(Array.from({ length: connections }, loop))
  agent.destroy()
  return { duration: seconds, answered: latencies.length, failures, latencies: latencies.sort((a, b) => a - b) }
}

/** Resolves to the status, 0 when there was none. */
function ask({ agent, url, headers, body, timeoutMs }) {
  return new Promise((resolve) => {
    const request = http.request(url, { method: 'POST', agent, headers: { ...headers, 'content-length': body.length }, timeout: timeoutMs }, (response) => {
      response.on('data', () => {})
      response.on('end', () => resolve(response.statusCode))
      response.on('error', () => resolve(0))
    })
    request.on('timeout', () => request.destroy())
    request.on('error', () => resolve(0))
    request.end(body)
  })
}
