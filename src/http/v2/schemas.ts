// Bodies of the Open Inference Protocol v2: the schemas that are checked, and their documentation.
// https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
import { Type, type Static, type TSchema } from 'typebox'
import { dtypes } from '../../tensor/tensor.js'
import { platform } from '../../v2/metadata.js'
import { outputParameters, requestParameters } from '../../v2/parameters.js'
import { strict } from '../answers.js'

const datatype = Type.Enum(Object.values(dtypes).map(({ v2 }) => v2))
const shape = Type.Array(Type.Integer(), { description: 'A free dimension is -1' })
const size = Type.Integer({ minimum: 0, description: 'Bytes of this tensor after the JSON' })

const RequestParameters = Type.Object(
  { ...requestParameters, binary_data_output: Type.Optional(Type.Boolean({ description: 'All outputs as raw bytes after the JSON' })) },
  strict,
)
const OutputParameters = Type.Object(
  { binary_data: Type.Optional(Type.Boolean({ description: 'Overrides binary_data_output for this output' })), ...outputParameters },
  strict,
)

const envelope = (data: TSchema) =>
  Type.Object(
    {
      id: Type.Optional(Type.String()),
      parameters: Type.Optional(RequestParameters),
      inputs: Type.Array(
        Type.Object(
          {
            name: Type.String(),
            shape: data,
            datatype: Type.String(),
            parameters: Type.Optional(Type.Object({ binary_data_size: Type.Optional(size) }, strict)),
            data: Type.Optional(data),
          },
          strict,
        ),
      ),
      outputs: Type.Optional(Type.Array(Type.Object({ name: Type.String(), parameters: Type.Optional(OutputParameters) }, strict))),
    },
    strict,
  )

/** What is checked: shapes and data are read by the wire, which knows the model. */
export const V2InferBody = envelope(Type.Unknown())
export interface V2InferBody {
  id?: string
  parameters?: Static<typeof RequestParameters>
  inputs: { name: string; shape: unknown; datatype: string; parameters?: { binary_data_size?: number }; data?: unknown }[]
  outputs?: { name: string; parameters?: Static<typeof OutputParameters> }[]
}

export const RepositoryIndexBody = Type.Object({ ready: Type.Optional(Type.Boolean({ description: 'Only models that are READY' })) }, strict)
export const RepositoryLoadBody = Type.Object(
  { parameters: Type.Optional(Type.Object({ unload_dependents: Type.Optional(Type.Boolean({ description: 'No model here has dependents' })) }, strict)) },
  strict,
)

const metadataTensor = Type.Object({ name: Type.String(), datatype, shape })
const duration = Type.Object({ count: Type.Integer(), ns: Type.Integer() })
const tensorFields = { name: Type.String(), shape, datatype }

/** What is documented. */
export const V2InferRequest = Type.Object(
  {
    id: Type.Optional(Type.String({ description: 'Comes back in the answer' })),
    parameters: Type.Optional(RequestParameters),
    inputs: Type.Array(
      Type.Object(
        {
          ...tensorFields,
          parameters: Type.Optional(Type.Object({ binary_data_size: Type.Optional(size) }, strict)),
          data: Type.Optional(
            Type.Array(Type.Unknown(), { description: 'Flat or nested, row-major; absent when the tensor is binary. FP16 and BF16 must be binary' }),
          ),
        },
        strict,
      ),
    ),
    outputs: Type.Optional(
      Type.Array(Type.Object({ name: Type.String(), parameters: Type.Optional(OutputParameters) }, strict), { description: 'Default: all' }),
    ),
  },
  strict,
)

export const v2Components = {
  V2InferAnswer: Type.Object({
    model_name: Type.String(),
    model_version: Type.String(),
    id: Type.Optional(Type.String()),
    parameters: Type.Object({ variant: Type.String(), fidelity: Type.Number(), deadline_met: Type.Boolean() }),
    outputs: Type.Array(
      Type.Object({
        ...tensorFields,
        parameters: Type.Optional(Type.Object({ binary_data_size: Type.Integer() })),
        data: Type.Optional(Type.Array(Type.Unknown(), { description: 'Flat; absent when the tensor is binary' })),
      }),
    ),
  }),
  V2ServerMetadata: Type.Object({ name: Type.String(), version: Type.String(), extensions: Type.Array(Type.String()) }),
  V2ModelMetadata: Type.Object({
    name: Type.String(),
    versions: Type.Array(Type.String()),
    platform: Type.Literal(platform),
    inputs: Type.Array(metadataTensor),
    outputs: Type.Array(metadataTensor),
  }),
  V2ModelConfig: Type.Object({
    name: Type.String(),
    platform: Type.Literal(platform),
    backend: Type.Literal('onnxruntime'),
    max_batch_size: Type.Integer({ description: '0 for a model without a batch dimension; else `dims` leave it out' }),
    input: Type.Array(Type.Object({ name: Type.String(), data_type: Type.String(), dims: shape })),
    output: Type.Array(Type.Object({ name: Type.String(), data_type: Type.String(), dims: shape })),
  }),
  V2Statistics: Type.Object({
    model_stats: Type.Array(
      Type.Object({
        name: Type.String(),
        version: Type.String(),
        last_inference: Type.Integer({ description: 'Milliseconds since the epoch; 0: never' }),
        inference_count: Type.Integer(),
        execution_count: Type.Integer(),
        inference_stats: Type.Object({
          success: duration,
          fail: duration,
          queue: duration,
          compute_input: duration,
          compute_infer: duration,
          compute_output: duration,
        }),
        batch_stats: Type.Array(Type.Object({ batch_size: Type.Integer(), compute_input: duration, compute_infer: duration, compute_output: duration })),
        memory_usage: Type.Array(Type.Object({ type: Type.String(), id: Type.Integer(), byte_size: Type.Integer() })),
      }),
    ),
  }),
  V2RepositoryIndex: Type.Array(
    Type.Object({ name: Type.String(), version: Type.String(), state: Type.Enum(['READY', 'UNAVAILABLE', 'LOADING', 'UNLOADING']), reason: Type.String() }),
  ),
}
