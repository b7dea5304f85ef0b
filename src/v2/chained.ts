// Answers as requests: KServe's InferenceGraph sends a step's answer to the next step as it came (docs/decisions/0027).

/**
 * A v2 answer as the request that it stands for: its outputs are the inputs. Its parameters tell of the run that gave it, so
 * they go. Anything else is given back as it is: a request has `inputs`, and its `outputs` no datatype.
 */
export function requestOf(body: unknown): unknown {
  if (!isRecord(body) || body['inputs'] !== undefined || body['model_name'] === undefined) return body
  const outputs = body['outputs']
  if (!Array.isArray(outputs) || !outputs.every((output) => isRecord(output) && output['datatype'] !== undefined)) return body
  return { ...(body['id'] === undefined ? {} : { id: body['id'] }), inputs: outputs }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
