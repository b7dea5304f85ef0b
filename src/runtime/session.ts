// The only import of onnxruntime-node. A session runs on the thread that opened it and blocks that
// thread for the whole of a load or run, so only lanes and job processes open sessions.
import ort from 'onnxruntime-node'
import { FlyweightError } from '../errors.js'
import { float16From } from '../tensor/float16.js'
import { freeOutputs } from './free-outputs.js'
import { dtypes, type DType, type Tensor, type TensorSpec } from '../tensor/tensor.js'

export interface SessionOptions {
  /** `cpu` (default; `cpu:N` names one of several threads on it), `webgpu:0`, `cuda:N`, `tensorrt:N`. */
  device?: string
  /** Intra-op threads; default 1: several spinning pools fight each other. */
  threads?: number
  optimization?: 'disabled' | 'basic' | 'extended' | 'all'
  /** Writes the graph as the runtime optimized it, to see which fusions fired. */
  optimizedModelFile?: string
  /**
   * Name of a file beside it for its large weights, which are not copied twice then. Not for models with subgraphs: the
   * runtime writes initializers of those twice.
   */
  optimizedWeightsFile?: string
  /** How the path of a trace with the time of every node begins; it is written on release. */
  tracePrefix?: string
}

export interface Session {
  readonly inputs: readonly TensorSpec[]
  readonly outputs: readonly TensorSpec[]
  /**
   * Runs one batch; `fetches` limits the outputs computed, `into` gives memory for some of them: of their types and dims.
   * float32 for a float16 input is rounded to it.
   */
  run(feeds: Readonly<Record<string, Tensor>>, fetches?: readonly string[], into?: Readonly<Record<string, Tensor>>): Promise<Record<string, Tensor>>
  /** Runs one batch and writes these outputs into memory that is given, by name: of their types and dims. */
  runInto(feeds: Readonly<Record<string, Tensor>>, outputs: Readonly<Record<string, Tensor>>): Promise<void>
  release(): Promise<void>
}

export const runtimeVersion = `onnxruntime-node ${ort.env.versions.node ?? ort.env.versions.common}`

/**
 * Loads a model from a file path, or from bytes that need no external data.
 * @throws what the runtime throws, and FlyweightError `invalid_model` for inputs or outputs that are not tensors.
 */
export async function openSession(model: string | Uint8Array<ArrayBuffer>, options: SessionOptions = {}): Promise<Session> {
  const sessionOptions: ort.InferenceSession.SessionOptions = {
    executionProviders: [executionProvider(options.device ?? 'cpu')],
    intraOpNumThreads: options.threads ?? 1,
    interOpNumThreads: 1,
    graphOptimizationLevel: options.optimization ?? 'all',
    logSeverityLevel: 3,
    extra: { session: { intra_op: { allow_spinning: '0' }, ...externalWeights(options.optimizedWeightsFile) } },
    ...(options.optimizedModelFile === undefined ? {} : { optimizedModelFilePath: options.optimizedModelFile }),
    ...(options.tracePrefix === undefined ? {} : { enableProfiling: true, profileFilePrefix: options.tracePrefix }),
  }
  const session =
    typeof model === 'string' ? await ort.InferenceSession.create(model, sessionOptions) : await ort.InferenceSession.create(model, sessionOptions)
  const inputs = session.inputMetadata.map(specOf)
  const halves = new Set(inputs.filter(({ dtype }) => dtype === 'float16').map(({ name }) => name))
  const ortTensors = (tensors: Readonly<Record<string, Tensor>>): Record<string, ort.Tensor> => {
    const converted: Record<string, ort.Tensor> = {}
    for (const name in tensors) converted[name] = toOrt(halves.has(name) ? halved(tensors[name] as Tensor) : (tensors[name] as Tensor))
    return converted
  }
  return {
    inputs,
    outputs: session.outputMetadata.map(specOf),
    run: async (feeds, fetches, into) => {
      const ortFeeds = ortTensors(feeds)
      const results = await (into !== undefined
        ? session.run(ortFeeds, Object.fromEntries((fetches ?? session.outputNames).map((name) => [name, into[name] ? toOrt(into[name]) : null])))
        : fetches === undefined
          ? session.run(ortFeeds)
          : session.run(ortFeeds, fetches))
      freeCopies(results, into)
      const outputs: Record<string, Tensor> = {}
      for (const name in results) outputs[name] = into?.[name] ?? fromOrt(results[name] as ort.Tensor)
      return outputs
    },
    runInto: async (feeds, outputs) => freeCopies(await session.run(ortTensors(feeds), ortTensors(outputs)), outputs),
    release: async () => {
      if (options.tracePrefix !== undefined) session.endProfiling()
      await session.release()
    },
  }
}

function externalWeights(file: string | undefined): Record<string, string> {
  if (file === undefined) return {}
  return {
    optimized_model_external_initializers_file_name: file,
    optimized_model_external_initializers_min_size_in_bytes: String(2 ** 20),
  }
}

/** Devices this build of the runtime has; whether hardware answers is found out by opening a session. */
export function backends(): readonly { name: string; bundled: boolean }[] {
  return ort.listSupportedBackends()
}

function executionProvider(device: string): ort.InferenceSession.ExecutionProviderConfig {
  const [name = 'cpu', index = '0'] = device.split(':')
  return name === 'cuda' || name === 'tensorrt' ? { name, deviceId: Number(index) } : name
}

function specOf(metadata: ort.InferenceSession.ValueMetadata): TensorSpec {
  if (!metadata.isTensor) {
    throw new FlyweightError(
      'invalid_model',
      `"${metadata.name}" is a sequence, map or optional; only models whose inputs and outputs are tensors can be served`,
    )
  }
  if (!(metadata.type in dtypes)) {
    throw new FlyweightError('invalid_model', `"${metadata.name}" has element type ${metadata.type}, which is not supported`)
  }
  return { name: metadata.name, dtype: metadata.type as DType, dims: metadata.shape.map((dim) => (dim === '' ? -1 : dim)) }
}

/**
 * What was written into memory that is given, the binding gives as a copy, too (onnxruntime-node 1.30). V8 would collect
 * garbage for copies that nobody reads.
 */
function freeCopies(results: ort.InferenceSession.OnnxValueMapType, given: Readonly<Record<string, Tensor>> = {}): void {
  const copies: Record<string, Tensor> = {}
  for (const name in given) {
    const copy = results[name]
    if (copy !== undefined && bufferOf(copy.data) !== bufferOf(given[name]?.data)) copies[name] = fromOrt(copy)
  }
  freeOutputs(copies)
}

function bufferOf(data: ort.Tensor.DataType | Tensor['data'] | undefined): ArrayBufferLike | undefined {
  return ArrayBuffer.isView(data) ? data.buffer : undefined
}

function halved(tensor: Tensor): Tensor {
  return tensor.dtype === 'float32' ? { ...tensor, dtype: 'float16', data: float16From(tensor.data as Float32Array) } : tensor
}

function toOrt(tensor: Tensor): ort.Tensor {
  return new ort.Tensor(tensor.dtype as 'float32', tensor.data as Float32Array, tensor.dims)
}

function fromOrt(tensor: ort.Tensor): Tensor {
  if (!(tensor.type in dtypes)) throw new TypeError(`the runtime returned a tensor of type ${tensor.type}, which Flyweight does not carry`)
  return { dtype: tensor.type as DType, dims: tensor.dims, data: tensor.data as Tensor['data'] }
}
