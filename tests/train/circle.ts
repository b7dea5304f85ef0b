// Points of a plane, inside or outside of a circle, and networks that learn which.
import type { Dataset } from '#flyweight/train/dataset.js'
import { buildNetwork } from '#flyweight/train/networks.js'
import { noise } from '../onnx/running.js'

const ROWS = 400
const points = noise([ROWS, 2], 3).data as Float32Array
/** Inside or outside of a circle: no line tells them apart. */
const classOf = (row: number) => (Math.hypot(points[2 * row] as number, points[2 * row + 1] as number) < 0.75 ? 1 : 0)

export function circle({ labelled = () => true, withLabels = true }: { labelled?: (row: number) => boolean; withLabels?: boolean } = {}): Dataset {
  return {
    rows: ROWS,
    read: (rows) => ({
      x: {
        dtype: 'float32',
        dims: [rows.length, 2],
        data: Float32Array.from(rows.flatMap((row) => [points[2 * row] as number, points[2 * row + 1] as number])),
      },
      ...(withLabels
        ? { labels: { dtype: 'int64', dims: [rows.length], data: BigInt64Array.from(rows, (row) => BigInt(labelled(row) ? classOf(row) : -1)) } }
        : {}),
    }),
  }
}

export const network = (hidden: number[], seed = 1) =>
  buildNetwork({ kind: 'mlp', hidden }, { input: { name: 'x', dims: [2] }, output: { name: 'scores', classes: 2 } }, seed)
