// The one table of errors: every failure a user can meet has a code here, with its title and its status over
// HTTP and gRPC. Code throws `new FlyweightError(code, detail, …)`; the doors (http, grpc, cli) translate it.

/** Names of gRPC's status codes: https://grpc.io/docs/guides/status-codes/ */
export type GrpcStatus =
  | 'CANCELLED'
  | 'INVALID_ARGUMENT'
  | 'DEADLINE_EXCEEDED'
  | 'NOT_FOUND'
  | 'ALREADY_EXISTS'
  | 'PERMISSION_DENIED'
  | 'UNAUTHENTICATED'
  | 'RESOURCE_EXHAUSTED'
  | 'UNIMPLEMENTED'
  | 'INTERNAL'
  | 'UNAVAILABLE'

export interface ErrorRow {
  title: string
  /** Of HTTP. */
  status: number
  grpc: GrpcStatus
}

const TABLE = {
  malformed: { title: 'The request could not be read', status: 400, grpc: 'INVALID_ARGUMENT' },
  unknown_field: { title: 'The request has a field that does not exist', status: 400, grpc: 'INVALID_ARGUMENT' },
  unauthorized: { title: 'The key is missing or wrong', status: 401, grpc: 'UNAUTHENTICATED' },
  forbidden: { title: 'This is not allowed here', status: 403, grpc: 'PERMISSION_DENIED' },
  not_found: { title: 'There is no such thing', status: 404, grpc: 'NOT_FOUND' },
  model_not_found: { title: 'There is no such model', status: 404, grpc: 'NOT_FOUND' },
  variant_not_found: { title: 'There is no such variant', status: 404, grpc: 'NOT_FOUND' },
  job_not_found: { title: 'There is no such job', status: 404, grpc: 'NOT_FOUND' },
  method_not_allowed: { title: 'This method is not supported here', status: 405, grpc: 'UNIMPLEMENTED' },
  conflict: { title: 'The request conflicts with the current state', status: 409, grpc: 'ALREADY_EXISTS' },
  too_large: { title: 'The body is larger than allowed', status: 413, grpc: 'RESOURCE_EXHAUSTED' },
  unsupported_media: { title: 'This content type is not supported', status: 415, grpc: 'INVALID_ARGUMENT' },
  invalid_input: { title: 'An input does not fit the model', status: 422, grpc: 'INVALID_ARGUMENT' },
  invalid_recipe: { title: 'The recipe is not valid', status: 422, grpc: 'INVALID_ARGUMENT' },
  invalid_plan: { title: 'The model cannot be cut into stages like this', status: 422, grpc: 'INVALID_ARGUMENT' },
  invalid_model: { title: 'The model cannot be served', status: 422, grpc: 'INVALID_ARGUMENT' },
  invalid_config: { title: 'The configuration is not valid', status: 422, grpc: 'INVALID_ARGUMENT' },
  cancelled: { title: 'The client left before the answer', status: 499, grpc: 'CANCELLED' },
  inference_failed: { title: 'The model failed on this input', status: 500, grpc: 'INTERNAL' },
  internal: { title: 'Something went wrong inside the gateway', status: 500, grpc: 'INTERNAL' },
  model_not_ready: { title: 'The model is not ready', status: 503, grpc: 'UNAVAILABLE' },
  overloaded: { title: 'The gateway is overloaded', status: 503, grpc: 'UNAVAILABLE' },
  sla_unmet: { title: 'No variant can meet this SLA now', status: 503, grpc: 'UNAVAILABLE' },
  out_of_memory: { title: 'The memory budget cannot hold this variant', status: 503, grpc: 'UNAVAILABLE' },
  draining: { title: 'The gateway is shutting down', status: 503, grpc: 'UNAVAILABLE' },
  deadline_passed: { title: 'The deadline passed in the queue', status: 504, grpc: 'DEADLINE_EXCEEDED' },
  run_timeout: { title: 'The model ran longer than allowed', status: 504, grpc: 'DEADLINE_EXCEEDED' },
} as const satisfies Record<string, ErrorRow>

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

/** The whole table, for the doors and the API documentation. */
export const errorTable: Readonly<Record<ErrorCode, ErrorRow>> = TABLE

/** Text of anything thrown, for logs and `detail` fields. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
