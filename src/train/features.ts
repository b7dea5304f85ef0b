// Tensors inside a teacher that tensors inside a student learn from: found by name, made comparable by means over
// positions and learned linear projections, as Romero et al., "FitNets: Hints for Thin Deep Nets" (2015), do. The
// projections are trained as a part of the student and taken out of it at the end.
import { Emitter } from '../onnx/emitter.js'
import { tensorNames } from '../onnx/names.js'
import { create, shallowCopy, structuralCopy, ValueInfoProtoSchema } from '../onnx/proto.js'
import { removeDeadNodes } from '../onnx/rewrite.js'
import { upgradeOpset } from '../onnx/upgrade/opset.js'
import { mulberry32 } from '../runtime/sample-inputs.js'
import { elementCount, type Tensor } from '../tensor/tensor.js'
import type { Tensors } from './gradient.js'
import type { ComparedPair, FeaturePair } from './losses/feature-pairs.js'
import { optionError } from './options.js'
import { teacherColumn } from './teacher.js'
import { observeTensors } from './tensors.js'
import type { Model } from './training-form.js'

export interface Features {
  /** The student with what its tensors are projected to as further outputs. */
  student: Model
  /** The teacher with what is compared as further outputs. */
  teacher: Model
  /** Names of these outputs of the teacher. */
  outputs: readonly string[]
  pairs: readonly ComparedPair[]
  /** A trained student without projections and further outputs. */
  strip(trained: Model): Model
}

/**
 * @param feeds one row of what both models take
 * @throws FlyweightError `invalid_input` naming the field, for names that no tensor has or tensors that cannot be compared
 */
export async function joinFeatures(
  models: { student: Model; teacher: Model },
  { pairs, feeds, seed }: { pairs: readonly FeaturePair[]; feeds: Readonly<Record<string, Tensor>>; seed: number },
): Promise<Features> {
  const [student, teacher] = [await open(models.student, feeds), await open(models.teacher, feeds)]
  const random = mulberry32(seed)
  const compared = pairs.map((pair, index): ComparedPair & { output: string } => {
    const pointer = `/loss/features/${index}`
    const own = student.find(pair.student, `${pointer}/student`)
    const wanted = teacher.find(pair.teacher, `${pointer}/teacher`)
    const pooled = { own: meanOver(student.emit, own, wanted), wanted: meanOver(teacher.emit, wanted, own) }
    if (!samePositions(pooled.own.dims, pooled.wanted.dims)) {
      const shown = ({ name, dims }: Place) => `"${name}" [${dims.join(', ')}]`
      throw optionError(pointer, `got ${shown(own)} and ${shown(wanted)} for one row, expected positions of which one has whole multiples of the other’s`)
    }
    const name = project(student.emit, pooled, { random, always: pair.projection })
    const output = pooled.wanted.name
    return { prediction: name, target: teacherColumn(output), output, weight: pair.weight, kind: pair.kind }
  })
  const outputs = [...new Set(compared.map(({ output }) => output))]
  const kept = new Set(models.student.graph.output.map(({ name }) => name))
  return {
    student: student.close(compared.map(({ prediction }) => prediction)),
    teacher: teacher.close(outputs),
    outputs,
    pairs: compared.map(({ output: _output, ...pair }) => pair),
    strip: (trained) => {
      const stripped = structuralCopy(trained)
      stripped.graph.output = stripped.graph.output.filter(({ name }) => kept.has(name))
      removeDeadNodes(stripped)
      return stripped
    },
  }
}

interface Place {
  name: string
  dims: readonly number[]
}

interface Opened {
  emit: Emitter
  find(name: string, pointer: string): Place
  /** The model with what was emitted, and these tensors as outputs. */
  close(outputs: readonly string[]): Model
}

async function open(given: Model, feeds: Readonly<Record<string, Tensor>>): Promise<Opened> {
  const model = upgradeOpset(given)
  const inputs = Object.fromEntries(model.graph.input.map(({ name }) => [name, feeds[name] as Tensor]))
  const tensors = await observeTensors(model, inputs)
  const rows = Object.values(inputs)[0]?.dims[0]
  const inside = model.graph.node.flatMap(({ output }) => output).filter((name) => name !== '' && isFeature(tensors, name, rows))
  const emit = new Emitter(tensorNames(model))
  return {
    emit,
    find: (name, pointer) => {
      if (inside.includes(name)) return { name, dims: tensors.dims(name) }
      throw optionError(pointer, `got "${name}", expected the name of a float tensor of 2 to 4 axes, rows first, as ${nearest(name, inside).join(', ')}`)
    },
    close: (outputs) => {
      const closed = shallowCopy(model)
      const { graph } = model
      const there = new Set(graph.output.map(({ name }) => name))
      closed.graph = shallowCopy(graph)
      closed.graph.node = [...graph.node, ...emit.nodes]
      closed.graph.initializer = [...graph.initializer, ...emit.initializers]
      closed.graph.output = [...graph.output, ...[...new Set(outputs)].filter((name) => !there.has(name)).map((name) => create(ValueInfoProtoSchema, { name }))]
      return closed
    },
  }
}

function isFeature(tensors: Tensors, name: string, rows: number | undefined): boolean {
  const dims = tensors.dims(name)
  return dims.length >= 2 && dims.length <= 4 && dims[0] === rows && tensors.dtype(name).startsWith('float')
}

/** Candidates that are most like a name that none has. */
function nearest(name: string, candidates: readonly string[]): string[] {
  return candidates
    .map((candidate) => ({ candidate, distance: editDistance(name, candidate) }))
    .sort((a, b) => a.distance - b.distance)
    .slice(0, 5)
    .map(({ candidate }) => `"${candidate}"`)
}

/** Levenshtein's distance: letters to insert, delete or exchange. */
function editDistance(a: string, b: string): number {
  let above = Array.from({ length: b.length + 1 }, (_, index) => index)
  for (let i = 1; i <= a.length; i++) {
    const row = [i]
    for (let j = 1; j <= b.length; j++) {
      row.push(Math.min((above[j] as number) + 1, (row[j - 1] as number) + 1, (above[j - 1] as number) + Number(a[i - 1] !== b[j - 1])))
    }
    above = row
  }
  return above[b.length] as number
}

/** Sizes of positions: what lies between rows and width. */
function positionsOf(dims: readonly number[]): readonly number[] {
  return dims.length === 4 ? dims.slice(2) : dims.slice(1, -1)
}

function samePositions(one: readonly number[], other: readonly number[]): boolean {
  return one.length === other.length && String(positionsOf(one)) === String(positionsOf(other))
}

/** Means over as many positions as leave those of the other tensor, or over all where that has none; the tensor itself where this does not come out even. */
function meanOver(emit: Emitter, tensor: Place, other: Place): Place {
  const { name, dims } = tensor
  const [from, to] = [positionsOf(dims), positionsOf(other.dims)]
  if (other.dims.length === 2 && dims.length > 2) {
    const axes = dims.length === 4 ? [2, 3] : [1]
    const width = dims.length === 4 ? dims[1] : dims[2]
    return { name: emit.op('ReduceMean', [name, emit.ints(axes)], { name: `${name}::mean`, attributes: { keepdims: 0 } }), dims: [dims[0] ?? 1, width ?? 1] }
  }
  const factors = from.map((size, axis) => size / (to[axis] ?? size))
  const even = dims.length === 4 && other.dims.length === 4 && factors.every((factor) => Number.isInteger(factor)) && factors.some((factor) => factor > 1)
  if (!even) return tensor
  const pooled = emit.op('AveragePool', [name], { name: `${name}::mean`, attributes: { kernel_shape: factors, strides: factors } })
  return { name: pooled, dims: [...dims.slice(0, 2), ...to] }
}

function widthAxis(dims: readonly number[]): number {
  return dims.length === 4 ? 1 : dims.length - 1
}

/** The student's tensor at the teacher's width, by weights that are learned; itself where the widths are the same. */
function project(emit: Emitter, { own, wanted }: { own: Place; wanted: Place }, { random, always }: { random: () => number; always: boolean }): string {
  const [from, to] = [own, wanted].map(({ dims }) => dims[widthAxis(dims)]) as [number, number]
  if (from === to && !always) return own.name
  const bound = Math.sqrt(3 / from)
  const draw = (dims: readonly number[]) => Float32Array.from({ length: elementCount(dims) }, () => (2 * random() - 1) * bound)
  const convolved = own.dims.length === 4
  const dims = convolved ? [to, from, 1, 1] : [from, to]
  const weight = emit.tensor('float32', dims, draw(dims), `${own.name}::projection`)
  return emit.op(convolved ? 'Conv' : 'MatMul', [own.name, weight], { name: `${own.name}::projected` })
}
