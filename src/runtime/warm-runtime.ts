// What the runtime costs by itself, before any model: its kernels register and its allocators start
// with the first session of a process. Measurements of one model open a trivial one first.
import { model, node, valueInfo } from '../onnx/builder.js'
import { encodeModel } from '../onnx/proto.js'
import { openSession } from './session.js'

/** Opens, runs and releases a model of one Identity node. Throws when the device does not answer. */
export async function warmRuntime(device: string): Promise<void> {
  const session = await openSession(trivialModel(), { device })
  await session.run({ x: { dtype: 'float32', dims: [1], data: new Float32Array(1) } })
  await session.release()
}

function trivialModel(): Uint8Array<ArrayBuffer> {
  const shape = ['n']
  return encodeModel(
    model({ inputs: [valueInfo('x', 'float32', shape)], outputs: [valueInfo('y', 'float32', shape)], nodes: [node('Identity', ['x'], ['y'])] }),
  )
}
