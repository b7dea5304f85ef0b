// Parameter maps of gRPC messages ↔ plain values, checked by the schemas that the REST door uses too.
import { Type } from 'typebox'
import { outputParameters, requestParameters, type RequestParameters } from '../v2/parameters.js'
import { checkOf } from '../wire/check.js'
import type { Parameter, Parameters } from './messages.js'

const strict = { additionalProperties: false } as const
const requestSchema = Type.Object(requestParameters, strict)
const outputSchema = Type.Object(outputParameters, strict)
const checkRequest = checkOf(requestSchema, '/parameters')
const none = Type.Object({}, strict)

/** @throws FlyweightError `unknown_field` or `malformed` */
export function readRequestParameters(parameters: Parameters): RequestParameters {
  const values = plainParameters(parameters)
  checkRequest(values)
  return values
}

/** Parameters of the output at `index`. @throws FlyweightError `unknown_field` or `malformed` */
export function readOutputParameters(parameters: Parameters | undefined, index: number): { classification?: number } {
  const values = plainParameters(parameters)
  checkOf(outputSchema, `/outputs/${index}/parameters`)(values)
  return values
}

/** An input takes none. @throws FlyweightError `unknown_field` */
export function refuseInputParameters(parameters: Parameters | undefined, index: number): void {
  if (Object.keys(parameters ?? {}).length > 0) checkOf(none, `/inputs/${index}/parameters`)(plainParameters(parameters))
}

/** Values by name; one that is not there is null. */
export function plainParameters(parameters: Parameters = {}): Record<string, unknown> {
  return Object.fromEntries(Object.entries(parameters).map(([name, parameter]) => [name, valueOf(parameter)]))
}

function valueOf({ parameter_choice: choice, bool_param, int64_param, uint64_param, string_param, double_param }: Parameter): unknown {
  switch (choice) {
    case 'bool_param':
      return bool_param
    case 'int64_param':
      return Number(int64_param)
    case 'uint64_param':
      return Number(uint64_param)
    case 'string_param':
      return string_param
    case 'double_param':
      return double_param
    default:
      return null
  }
}

/** Plain values as parameters of an answer. */
export function toParameters(values: Readonly<Record<string, boolean | string | number>>): Parameters {
  const parameterOf = (value: boolean | string | number): Parameter =>
    typeof value === 'boolean' ? { bool_param: value } : typeof value === 'string' ? { string_param: value } : { double_param: value }
  return Object.fromEntries(Object.entries(values).map(([name, value]) => [name, parameterOf(value)]))
}
