// Errors over gRPC: the status of the one table (errors.ts), the detail as message, and in the trailing metadata
// the code, and gRPC's richer error model (https://grpc.io/docs/guides/error/) with fields at fault and when to
// try again. And back: what a client makes of them.
import { Metadata, status, type ServiceError } from '@grpc/grpc-js'
import { errorTable, FlyweightError, type ErrorCode } from '../errors.js'
import { messageType } from './proto.js'

/** Key of the trailing metadata that names the code of errors.ts. */
const CODE_KEY = 'flyweight-code'
const DETAILS_KEY = 'grpc-status-details-bin'
const DOMAIN = 'flyweight'
/** Clients take 8 KiB of metadata: an error must not be lost because it says too much. */
const LONGEST = 1024
const MOST_FIELDS = 4

interface Detail {
  type_url: string
  value: Uint8Array
}
const statusType = messageType<{ code: number; message: string; details: Detail[] }>('google.rpc.Status')

/** Anything thrown as an error of the table; what is none becomes `internal` without its text. */
export function toFlyweightError(error: unknown): FlyweightError {
  if (error instanceof FlyweightError) return error
  return new FlyweightError('internal', 'an unexpected error; the log of the gateway has it', { cause: error })
}

/** What a handler answers with in place of a response. */
export function toServiceError(error: FlyweightError): Pick<ServiceError, 'code' | 'details' | 'metadata'> {
  const code = status[errorTable[error.code].grpc]
  const details = error.message.length <= LONGEST ? error.message : `${error.message.slice(0, LONGEST)}…`
  const metadata = new Metadata()
  metadata.set(CODE_KEY, error.code)
  metadata.set(DETAILS_KEY, statusType.serialize({ code, message: details, details: detailsOf(error) }))
  return { code, details, metadata }
}

/** The error that a gateway threw; undefined for one that comes from the connection or the library. */
export function errorOf({ metadata, details }: Pick<ServiceError, 'metadata' | 'details'>): FlyweightError | undefined {
  const [code] = metadata.get(CODE_KEY)
  return typeof code === 'string' && Object.hasOwn(errorTable, code) ? new FlyweightError(code as ErrorCode, details) : undefined
}

function detailsOf({ code, errors, retryAfterS }: FlyweightError): Detail[] {
  const fields = errors.slice(0, MOST_FIELDS).map(({ pointer, detail: text }) => ({ field: pointer, description: text.slice(0, LONGEST) }))
  return [
    detail('ErrorInfo', { reason: code, domain: DOMAIN }),
    ...(fields.length === 0 ? [] : [detail('BadRequest', { field_violations: fields })]),
    ...(retryAfterS === undefined ? [] : [detail('RetryInfo', { retry_delay: { seconds: Math.max(1, Math.ceil(retryAfterS)) } })]),
  ]
}

function detail(name: string, message: object): Detail {
  return { type_url: `type.googleapis.com/google.rpc.${name}`, value: messageType(`google.rpc.${name}`).serialize(message) }
}
