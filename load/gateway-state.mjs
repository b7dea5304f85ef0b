// What the harness asks the gateway beside inference: waits for its jobs, builds a variant, reads its metrics.

async function getJson(url) {
  const response = await fetch(url)
  if (!response.ok) throw new Error(`GET ${url} answered ${response.status}: ${await response.text()}`)
  return response.json()
}

/** Waits until no job is queued or running: first starts profile their models in the background. */
export async function quiet(base, timeoutMs = 180_000) {
  const end = Date.now() + timeoutMs
  for (;;) {
    const { jobs } = await getJson(`${base}/admin/jobs`)
    const busy = jobs.filter(({ state }) => state === 'queued' || state === 'running')
    if (busy.length === 0) return
    if (Date.now() > end) throw new Error(`jobs still at work after ${timeoutMs / 1000} s: ${busy.map(({ kind, id }) => `${kind} ${id}`).join(', ')}`)
    await new Promise((resolve) => setTimeout(resolve, 250))
  }
}

/** Builds a variant and waits for it; returns the model's variants afterwards. */
export async function buildVariant(base, model, recipe) {
  const response = await fetch(`${base}/admin/compress`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ model, recipe }),
  })
  if (!response.ok) throw new Error(`POST /admin/compress answered ${response.status}: ${await response.text()}`)
  await response.arrayBuffer()
  await quiet(base)
  return variantsOf(base, model)
}

export async function variantsOf(base, model) {
  const { variants } = await getJson(`${base}/admin/variants?model=${model}`)
  return variants
}

/** The model file of a variant. */
export async function artifactOf(base, { id }) {
  const response = await fetch(`${base}/admin/variants/${encodeURIComponent(id)}/artifact`)
  if (!response.ok) throw new Error(`the artifact of ${id} answered ${response.status}: ${await response.text()}`)
  return Buffer.from(await response.arrayBuffer())
}

/** Main-loop delay p99 in milliseconds since the last reading, and requests answered so far by variant of `model`. */
export async function readMetrics(base, model) {
  const text = await (await fetch(`${base}/metrics`)).text()
  const delay = /^flyweight_event_loop_delay_seconds\{quantile="0\.99"\} ([\d.e+-]+)$/m.exec(text)?.[1]
  const answered = {}
  for (const [, labels, value] of text.matchAll(/^flyweight_request_duration_seconds_count\{([^}]*)\} (\d+)/gm)) {
    const of = Object.fromEntries([...labels.matchAll(/(\w+)="([^"]*)"/g)].map(([, name, label]) => [name, label]))
    if (of.model === model && of.outcome === 'ok') answered[of.variant] = (answered[of.variant] ?? 0) + Number(value)
  }
  return { loopDelayP99Ms: delay === undefined ? undefined : Number(delay) * 1000, answered }
}
