// The one table of errors: every failure a user can meet has a code here, with its title and HTTP
// status. Code throws `new FlyweightError(code, detail, …)`; the doors (http, cli) translate it.

const TABLE = {
  malformed: { title: 'The request could not be read', status: 400 },
  unknown_field: { title: 'The request has a field that does not exist', status: 400 },
  not_found: { title: 'There is no such thing', status: 404 },
  model_not_found: { title: 'There is no such model', status: 404 },
  variant_not_found: { title: 'There is no such variant', status: 404 },
  job_not_found: { title: 'There is no such job', status: 404 },
  method_not_allowed: { title: 'This method is not supported here', status: 405 },
  conflict: { title: 'The request conflicts with the current state', status: 409 },
  too_large: { title: 'The body is larger than allowed', status: 413 },
  unsupported_media: { title: 'This content type is not supported', status: 415 },
  invalid_input: { title: 'An input does not fit the model', status: 422 },
  invalid_recipe: { title: 'The recipe is not valid', status: 422 },
  invalid_plan: { title: 'The model cannot be cut into stages like this', status: 422 },
  invalid_model: { title: 'The model cannot be served', status: 422 },
  invalid_config: { title: 'The configuration is not valid', status: 422 },
  cancelled: { title: 'The client left before the answer', status: 499 },
  inference_failed: { title: 'The model failed on this input', status: 500 },
  internal: { title: 'Something went wrong inside the gateway', status: 500 },
  model_not_ready: { title: 'The model is not ready', status: 503 },
  overloaded: { title: 'The gateway is overloaded', status: 503 },
  sla_unmet: { title: 'No variant can meet this SLA now', status: 503 },
  out_of_memory: { title: 'The memory budget cannot hold this variant', status: 503 },
  draining: { title: 'The gateway is shutting down', status: 503 },
  deadline_passed: { title: 'The deadline passed in the queue', status: 504 },
  run_timeout: { title: 'The model ran longer than allowed', status: 504 },
} as const satisfies Record<string, { title: string; status: number }>

export type ErrorCode = keyof typeof TABLE

/** One field at fault: `pointer` is a JSON pointer (RFC 6901) into the request, `detail` says what came and what was expected. */
export interface FieldError {
  pointer: string
  detail: string
}

export interface ErrorOptions {
  errors?: readonly FieldError[]
  /** Seconds after which trying again makes sense; becomes `Retry-After`. */
  retryAfterS?: number
  cause?: unknown
}

export class FlyweightError extends Error {
  readonly code: ErrorCode
  readonly errors: readonly FieldError[]
  readonly retryAfterS: number | undefined

  constructor(code: ErrorCode, detail: string, options: ErrorOptions = {}) {
    super(detail, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = 'FlyweightError'
    this.code = code
    this.errors = options.errors ?? []
    this.retryAfterS = options.retryAfterS
  }

  get status(): number {
    return TABLE[this.code].status
  }

  get title(): string {
    return TABLE[this.code].title
  }
}

/** The whole table, for the API documentation. */
export const errorTable: Readonly<Record<ErrorCode, { title: string; status: number }>> = TABLE

/** Text of anything thrown, for logs and `detail` fields. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
