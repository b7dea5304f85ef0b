// What a person sees when the gateway has started. Pure: text in, text out.
import type { ModelStatus } from '../registry/model.js'
import { table } from './table.js'
import type { Terminal } from './terminal.js'

export interface BannerFacts {
  version: string
  /** As clients reach it, e.g. `http://127.0.0.1:8080`. */
  address: string
  seconds: number
  models: readonly ModelStatus[]
  /** Request body to send with the suggested curl, relative to the working directory; undefined when its model is not served. */
  exampleBody: string | undefined
}

/** A request to paste: an inference where the sample model is served, else the list of models. */
export function suggestedCurl(address: string, exampleBody: string | undefined): string {
  if (exampleBody === undefined) return `curl -s ${address}/admin/models`
  return `curl -s ${address}/infer -H 'content-type: application/json' -d @${exampleBody}`
}

/** Lines of the banner: address, a curl to paste, the docs, and every model with its state. */
export function banner(facts: BannerFacts, paint: Terminal['paint']): string[] {
  const { version, address, seconds, models, exampleBody } = facts
  const states = table<ModelStatus>(
    [
      { head: 'model', cell: ({ name }) => name },
      { head: 'version', cell: (status) => status.version },
      { head: 'state', cell: ({ state }) => paint(state === 'READY' ? 'green' : 'yellow', state) },
      { head: '', cell: ({ reason }) => paint('dim', reason) },
    ],
    models,
  )
  return [
    '',
    `${paint('bold', `Flyweight ${version}`)} is ready on ${paint('cyan', address)} after ${seconds.toFixed(1)} s`,
    '',
    `  try   ${suggestedCurl(address, exampleBody)}`,
    `  docs  ${address}/docs`,
    `  stop  Ctrl-C`,
    '',
    ...(models.length === 0 ? ['  No models yet: put one at models/<name>/1/model.onnx, or upload it to /admin/models.'] : states.map((line) => `  ${line}`)),
    '',
  ]
}
