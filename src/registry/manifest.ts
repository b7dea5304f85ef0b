// model.yaml: everything in it is optional; what it does not say is found out from the model.
import { Type, type Static } from 'typebox'

const strict = { additionalProperties: false } as const

export const SlaSchema = Type.Object(
  {
    latencyMs: Type.Optional(Type.Number({ exclusiveMinimum: 0, description: 'Deadline in milliseconds from arrival' })),
    minFidelity: Type.Optional(Type.Number({ minimum: 0, maximum: 1, description: 'Lowest fidelity an answer may have' })),
    priority: Type.Optional(Type.Integer({ minimum: 0, maximum: 9, description: 'Higher goes first; default 0' })),
    onMiss: Type.Optional(Type.Enum(['degrade', 'reject', 'wait'], { description: 'What to do when no variant meets the deadline; default degrade' })),
  },
  strict,
)
export type Sla = Static<typeof SlaSchema>

export const ManifestSchema = Type.Object(
  {
    source: Type.Optional(Type.String({ description: '`npm:<package>/<path>`: a file inside an installed package, in place of <version>/model.onnx' })),
    description: Type.Optional(Type.String()),
    labels: Type.Optional(Type.String({ description: 'Text file with one label a line, relative to the model folder, or `npm:…`' })),
    labelsOffset: Type.Optional(Type.Integer({ minimum: 0, description: 'Index of the first label (1 where index 0 is the CTC blank)' })),
    labelsAppend: Type.Optional(
      Type.Array(Type.String(), { description: 'Labels that follow those of the file, e.g. [" "] where a dictionary leaves out the space' }),
    ),
    samples: Type.Optional(Type.String({ description: 'Sample inputs, a folder or a file: .npz, .npy, JSON Lines or images; default samples/' })),
    sla: Type.Optional(SlaSchema),
    capture: Type.Optional(
      Type.Union(
        [
          Type.Boolean(),
          Type.Object(
            {
              maxBytes: Type.Optional(
                Type.Integer({ minimum: 65_536, description: 'Bytes of captured rows on disk; default 67108864. Rows above an eighth of it are left out' }),
              ),
              maxRows: Type.Optional(Type.Integer({ minimum: 1, maximum: 20_000, description: 'Default 2000' })),
            },
            strict,
          ),
        ],
        {
          description:
            'Keep a random sample of real inputs in the data directory, for calibration and evaluation; default false. ' +
            'What clients send is stored as it came: turn it on only where that is allowed. DELETE /admin/models/{name}/capture removes it',
        },
      ),
    ),
    recipes: Type.Optional(Type.Array(Type.String(), { description: 'Recipes or presets allowed for this model; default all' })),
    policy: Type.Optional(
      Type.Object(
        {
          onDemand: Type.Optional(
            Type.Array(Type.String(), { description: 'Recipes a request may trigger when nothing meets its SLA, in this order; default [int8], [] for none' }),
          ),
          maxBatch: Type.Optional(Type.Integer({ minimum: 1, maximum: 1024 })),
          maxDelayMs: Type.Optional(Type.Number({ minimum: 0, maximum: 1000 })),
          minFidelity: Type.Optional(Type.Number({ minimum: 0, maximum: 1, description: 'A variant below this is rejected by the gate; default 0.9' })),
        },
        strict,
      ),
    ),
  },
  strict,
)
export type Manifest = Static<typeof ManifestSchema>
