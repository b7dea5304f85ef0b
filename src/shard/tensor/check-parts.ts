// Parts are told by rules of operators and by shapes seen: before they are trusted they are run beside the whole.
import { join } from 'node:path'
import { FlyweightError } from '../../errors.js'
import { openSession } from '../../runtime/session.js'
import type { Tensor } from '../../tensor/tensor.js'

type Feeds = Readonly<Record<string, Tensor>>

/** Of the largest value of an output. Sums in another order differ by 1e-6 or so of it, by 1e-3 in half precision; a wrong cut by much more. */
const TOLERANCE = 0.01

/**
 * Runs the whole and the stages in `folder`, one after the other, on the same inputs.
 * @throws FlyweightError `invalid_plan` where an output of float32 or float64 differs in its shape or by more than sums in another order do
 */
export async function checkParts(
  file: string,
  stages: readonly { file: string; inputs: readonly string[] }[],
  { folder, feedSets }: { folder: string; feedSets: readonly Feeds[] },
): Promise<void> {
  const expected = await runAll(file, feedSets)
  const known = feedSets.map((feeds): Record<string, Tensor> => ({ ...feeds }))
  for (const stage of stages) {
    const results = await runAll(
      join(folder, stage.file),
      known.map((values) => Object.fromEntries(stage.inputs.map((name) => [name, values[name]!]))),
    )
    for (const [set, outputs] of results.entries()) Object.assign(known[set]!, outputs)
  }
  for (const [set, outputs] of expected.entries()) {
    for (const [name, whole] of Object.entries(outputs)) {
      const difference = relativeDifference(known[set]![name], whole)
      if (difference <= TOLERANCE) continue
      throw new FlyweightError(
        'invalid_plan',
        `in parts the model gives "${name}" with a difference of ${difference.toPrecision(2)} of its largest value, expected at most ${TOLERANCE}; a pipeline has no such difference`,
      )
    }
  }
}

async function runAll(file: string, feedSets: readonly Feeds[]): Promise<Record<string, Tensor>[]> {
  const session = await openSession(file)
  try {
    const results: Record<string, Tensor>[] = []
    for (const feeds of feedSets) results.push(await session.run(feeds))
    return results
  } finally {
    await session.release()
  }
}

function relativeDifference(found: Tensor | undefined, { dtype, dims, data }: Tensor): number {
  if (found === undefined || String(found.dims) !== String(dims)) return Infinity
  if (dtype !== 'float32' && dtype !== 'float64') return 0
  let [difference, largest] = [0, 0]
  for (let index = 0; index < data.length; index++) {
    const [one, other] = [Number(data[index]), Number(found.data[index])]
    if (Object.is(one, other)) continue
    difference = Math.max(difference, Number.isNaN(one - other) ? Infinity : Math.abs(one - other))
    largest = Math.max(largest, Math.abs(one))
  }
  return difference === 0 ? 0 : difference / largest
}
