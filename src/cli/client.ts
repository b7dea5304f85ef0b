// Talks to a running gateway over HTTP. Knows paths, problems and server-sent events; what a command
// does with an answer is the command's business.
import { FlyweightError, errorTable, messageOf, type ErrorCode, type FieldError } from '../errors.js'

export interface GatewayClient {
  readonly url: string
  /** @throws FlyweightError with the gateway's own code and detail, or `not_found` where no gateway answers */
  get<T>(path: string): Promise<T>
  post<T>(path: string, body: unknown, headers?: Readonly<Record<string, string>>): Promise<T>
  delete<T>(path: string): Promise<T>
  /** Data of each server-sent event, parsed as JSON, until the gateway ends the stream. */
  events<T>(path: string): AsyncGenerator<T, void, undefined>
}

interface Problem {
  code?: string
  title?: string
  detail?: string
  error?: string
  errors?: FieldError[]
}

export function connect(url: string): GatewayClient {
  const base = url.replace(/\/+$/, '')
  const send = async (method: string, path: string, options: { body?: unknown; headers?: Readonly<Record<string, string>> } = {}) => {
    const { body, headers } = options
    const response = await reach(base, path, {
      method,
      headers: { ...(body === undefined ? {} : { 'content-type': 'application/json' }), ...headers },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    })
    const text = await response.text()
    if (!response.ok) throw problemOf(response.status, text)
    return (text === '' ? undefined : JSON.parse(text)) as unknown
  }
  return {
    url: base,
    get: async <T>(path: string) => (await send('GET', path)) as T,
    post: async <T>(path: string, body: unknown, headers?: Readonly<Record<string, string>>) =>
      (await send('POST', path, { body, ...(headers === undefined ? {} : { headers }) })) as T,
    delete: async <T>(path: string) => (await send('DELETE', path)) as T,
    events: (path) => eventsOf(base, path),
  }
}

async function reach(base: string, path: string, options: RequestInit): Promise<Response> {
  try {
    return await fetch(base + path, options)
  } catch (cause) {
    const reason = cause instanceof Error && cause.cause !== undefined ? messageOf(cause.cause) : messageOf(cause)
    throw new FlyweightError('not_found', `no gateway answers at ${base} (${reason}); start one with \`npm start\`, or name another with --url`, { cause })
  }
}

function problemOf(status: number, text: string): FlyweightError {
  let problem: Problem = {}
  try {
    problem = JSON.parse(text) as Problem
  } catch {
    problem = { detail: text.slice(0, 500) }
  }
  const detail = problem.detail ?? problem.error ?? problem.title ?? `the gateway answered ${status}`
  return new FlyweightError(isErrorCode(problem.code) ? problem.code : 'internal', detail, { errors: problem.errors ?? [] })
}

function isErrorCode(code: string | undefined): code is ErrorCode {
  return code !== undefined && code in errorTable
}

async function* eventsOf<T>(base: string, path: string): AsyncGenerator<T, void, undefined> {
  const response = await reach(base, path, { headers: { accept: 'text/event-stream' } })
  if (!response.ok || response.body === null) throw problemOf(response.status, await response.text())
  for await (const data of sseData(response.body)) yield JSON.parse(data) as T
}

/** The data of each event of a stream: https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream */
export async function* sseData(stream: AsyncIterable<Uint8Array>): AsyncGenerator<string, void, undefined> {
  const decoder = new TextDecoder()
  let pending = ''
  let data: string[] = []
  for await (const chunk of stream) {
    pending += decoder.decode(chunk, { stream: true })
    const lines = pending.split(/\r\n|\r(?!$)|\n/)
    pending = lines.pop() ?? ''
    for (const line of lines) {
      if (line === '' && data.length > 0) {
        yield data.join('\n')
        data = []
      } else if (line.startsWith('data:')) data.push(line.slice(line[5] === ' ' ? 6 : 5))
    }
  }
}
