// `flyweight train file.onnx` with students that come from files: another model, and the teacher made smaller.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { openTerminal } from '#flyweight/cli/terminal.js'
import { trainFile } from '#flyweight/cli/train-file.js'
import { loadModel } from '#flyweight/onnx/load.js'
import { encodeModel } from '#flyweight/onnx/proto.js'
import { writeNpz } from '#flyweight/tensor/npz.js'
import { buildNetwork } from '#flyweight/train/networks.js'
import { noise } from '../onnx/running.js'

const folder = mkdtempSync(join(tmpdir(), 'flyweight-train-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))
const at = (name: string) => join(folder, name)
const network = (hidden: number[]) => buildNetwork({ kind: 'mlp', hidden }, { input: { name: 'x', dims: [6] }, output: { name: 'scores', classes: 3 } }, 1)

beforeAll(() => {
  writeFileSync(at('teacher.onnx'), encodeModel(network([16])))
  writeFileSync(at('other.onnx'), encodeModel(network([5])))
  writeFileSync(at('rows.npz'), writeNpz(new Map([['x', noise([200, 6], 2)]])))
})

async function train(student: string, settings = '{}'): Promise<Record<string, unknown>[]> {
  const lines: Record<string, unknown>[] = []
  const stdout = new Writable({
    write(chunk: Buffer, _encoding, done) {
      for (const line of chunk.toString().trim().split('\n')) lines.push(JSON.parse(line) as Record<string, unknown>)
      done()
    },
  })
  const terminal = openTerminal({ json: true, stdout: stdout as unknown as NodeJS.WriteStream })
  await trainFile(terminal, at('teacher.onnx'), { data: at('rows.npz'), student, settings, epochs: 5, out: at('student.onnx') })
  return lines
}

it.each([
  ['another file', () => `model:${at('other.onnx')}`, [5, 6]],
  ['the teacher made narrower', () => 'shrink:width=0.25', [4, 6]],
])('%s learns', async (_what, student, weight) => {
  const lines = await train(
    student(),
    '{"learningRate": 0.01, "loss": {"kind": "distillation", "features": [{"teacher": "dense1.relu", "student": "dense1.relu"}]}}',
  )
  const [first, result] = [lines[0] as { heldOut: { loss: number } }, lines.at(-1) as { best: { heldOut: { loss: number } }; out: string }]
  expect(result.best.heldOut.loss).toBeLessThan(first.heldOut.loss)
  const { graph } = await loadModel(result.out)
  expect(graph.initializer.map(({ name, dims }) => [name, dims.map(Number)])).toContainEqual(['dense1.weight', weight])
  expect(graph.initializer).toHaveLength(4)
})

it('a file that is not there is named', async () => {
  await expect(train('model:./nowhere.onnx')).rejects.toThrow('--student: got model ./nowhere.onnx, expected a file that can be read')
})
