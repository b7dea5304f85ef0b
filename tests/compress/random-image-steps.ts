// The steps of random graphs that go on from an image [c, h, w].
import type { Sketch, Value } from './random-graphs.js'
import type { Step } from './random-steps.js'

export const imageSteps: readonly Step[] = [
  convolution,
  convolution,
  convolution,
  grouped,
  depthwise,
  normalizedConvolution,
  transposedConvolution,
  batchNormalization,
  squeezeAndExcite,
  pool,
  (sketch, { name, dims: [channels = 1] }) => sketch.apply(sketch.pick(['GlobalAveragePool', 'GlobalMaxPool']), [name], [channels, 1, 1]),
  resize,
  pad,
  (sketch, { name, dims: [channels = 1] }) => sketch.apply('ReduceMean', [name, sketch.int64s([2, 3])], [channels], { keepdims: 0 }),
  (sketch, { name, dims: [, height = 1, width = 1] }) => sketch.apply('ReduceMean', [name, sketch.int64s([1])], [1, height, width]),
  channelsLast,
  shuffle,
  toSequence,
  (sketch, { name, dims: [channels = 1, height = 1, width = 1] }) =>
    height === 1 && width === 1 ? sketch.apply('Squeeze', [name, sketch.int64s([2, 3])], [channels]) : undefined,
  (sketch, { name, dims }) => {
    const count = dims.reduce((a, b) => a * b, 1)
    return count > 400 ? undefined : sketch.apply('Flatten', [name], [count], { axis: 1 })
  },
]

interface Shape {
  to: number
  group?: number
  kernel?: number
}

/** A convolution of any stride, dilation and way of padding that fits. */
function convolve(
  sketch: Sketch,
  { name, dims: [from = 1, height = 1, width = 1] }: Value,
  { to, group = 1, kernel = sketch.pick([1, 3, 3, 5]) }: Shape,
): Value | undefined {
  const stride = sketch.pick([1, 1, 2])
  const dilation = kernel > 1 && sketch.chance(0.15) ? 2 : 1
  const reach = dilation * (kernel - 1)
  const padding = sketch.pick(['half', 'half', 'none', dilation === 1 ? 'same' : 'half', 'uneven'])
  const pads = { half: [reach >> 1, reach >> 1, reach >> 1, reach >> 1], none: [0, 0, 0, 0], uneven: [0, reach >> 1, reach, 0], same: [] }[padding] ?? []
  const size = (side: number, before = 0, after = 0) =>
    padding === 'same' ? Math.ceil(side / stride) : Math.floor((side + before + after - reach - 1) / stride) + 1
  const out = [size(height, pads[0], pads[2]), size(width, pads[1], pads[3])]
  if (out.some((side) => side < 1)) return undefined
  const fanIn = (from / group) * kernel ** 2
  const inputs = [name, sketch.weights([to, from / group, kernel, kernel], { deviation: 1.2 / Math.sqrt(fanIn) })]
  if (sketch.chance(0.6)) inputs.push(sketch.weights([to], { deviation: 0.2 }))
  return sketch.apply('Conv', inputs, [to, ...out], {
    kernel_shape: [kernel, kernel],
    strides: [stride, stride],
    ...(dilation === 1 ? {} : { dilations: [dilation, dilation] }),
    ...(padding === 'same' ? { auto_pad: 'SAME_UPPER' } : { pads }),
    ...(group === 1 ? {} : { group }),
  })
}

function convolution(sketch: Sketch, value: Value): Value | undefined {
  return convolve(sketch, value, { to: 4 * sketch.integer(1, 5) })
}

function grouped(sketch: Sketch, value: Value): Value | undefined {
  const group = [4, 2].find((count) => value.dims[0]! % count === 0)
  return group === undefined ? undefined : convolve(sketch, value, { to: group * sketch.integer(1, 5), group })
}

function depthwise(sketch: Sketch, value: Value): Value | undefined {
  const channels = value.dims[0]!
  return convolve(sketch, value, { to: channels * sketch.pick([1, 1, 1, 2]), group: channels, kernel: 3 })
}

function normalizedConvolution(sketch: Sketch, value: Value): Value | undefined {
  const out = convolution(sketch, value)
  return out === undefined ? undefined : sketch.apply('Relu', [batchNormalization(sketch, out).name], out.dims)
}

function batchNormalization(sketch: Sketch, { name, dims }: Value): Value {
  const channels = [dims[0]!]
  const inputs = [
    sketch.weights(channels, { mean: 1, deviation: 0.2 }),
    sketch.weights(channels, { deviation: 0.2 }),
    sketch.weights(channels, { deviation: 0.1 }),
    sketch.weights(channels, { mean: 1, deviation: 0.15 }),
  ]
  return sketch.apply('BatchNormalization', [name, ...inputs], dims, { epsilon: { float: 1e-5 } })
}

function transposedConvolution(sketch: Sketch, { name, dims: [from = 1, height = 1, width = 1] }: Value): Value {
  const group = from % 2 === 0 && sketch.chance(0.3) ? 2 : 1
  const [each, kernel, stride] = [2 * sketch.integer(1, 4), sketch.pick([2, 3]), sketch.pick([1, 2])]
  const deviation = 1 / Math.sqrt((from / group) * (kernel / stride) ** 2)
  const inputs = [name, sketch.weights([from, each, kernel, kernel], { deviation })]
  if (sketch.chance(0.5)) inputs.push(sketch.weights([each * group], { deviation: 0.2 }))
  const size = (side: number) => stride * (side - 1) + kernel
  const out = [each * group, size(height), size(width)]
  return sketch.apply('ConvTranspose', inputs, out, { kernel_shape: [kernel, kernel], strides: [stride, stride], ...(group === 1 ? {} : { group }) })
}

/** Hu et al., "Squeeze-and-Excitation Networks", 2018, with the gate of MobileNetV3. */
function squeezeAndExcite(sketch: Sketch, { name, dims }: Value): Value {
  const [channels = 1] = dims
  const squeezed = sketch.apply('GlobalAveragePool', [name], [channels, 1, 1])
  const pointwise = (value: Value, to: number) =>
    sketch.apply('Conv', [value.name, sketch.weights([to, value.dims[0]!, 1, 1], { deviation: 1 / Math.sqrt(value.dims[0]!) })], [to, 1, 1], {
      kernel_shape: [1, 1],
    })
  const inner = sketch.apply('Relu', [pointwise(squeezed, 4).name], [4, 1, 1])
  const gate = sketch.apply('HardSigmoid', [pointwise(inner, channels).name], [channels, 1, 1])
  return sketch.apply('Mul', [name, gate.name], dims)
}

function pool(sketch: Sketch, { name, dims: [channels = 1, height = 1, width = 1] }: Value): Value | undefined {
  if (height < 2 || width < 2) return undefined
  const kind = sketch.pick(['MaxPool', 'AveragePool'])
  const padded = height > 2 && width > 2 && sketch.chance(0.3)
  const [kernel, edge] = padded ? [3, 1] : [2, 0]
  const size = (side: number) => Math.floor((side + 2 * edge - kernel) / 2) + 1
  return sketch.apply(kind, [name], [channels, size(height), size(width)], {
    kernel_shape: [kernel, kernel],
    strides: [2, 2],
    pads: [edge, edge, edge, edge],
    ...(kind === 'AveragePool' && sketch.chance(0.5) ? { count_include_pad: 1 } : {}),
  })
}

function resize(sketch: Sketch, { name, dims: [channels = 1, height = 1, width = 1] }: Value): Value {
  const mode = sketch.pick([
    { mode: 'nearest', coordinate_transformation_mode: 'asymmetric', nearest_mode: 'floor' },
    { mode: 'linear', coordinate_transformation_mode: 'half_pixel' },
  ])
  return sketch.apply('Resize', [name, '', sketch.floats([4], [1, 1, 2, 2])], [channels, 2 * height, 2 * width], mode)
}

function pad(sketch: Sketch, { name, dims: [channels = 1, height = 1, width = 1] }: Value): Value {
  const mode = height > 1 && width > 1 && sketch.chance(0.4) ? 'reflect' : 'constant'
  return sketch.apply('Pad', [name, sketch.int64s([0, 0, 1, 0, 0, 0, 0, 1])], [channels, height + 1, width + 1], { mode })
}

/** To channels last, a sum there, and back. */
function channelsLast(sketch: Sketch, { name, dims: [channels = 1, height = 1, width = 1] }: Value): Value {
  const last = [height, width, channels]
  const turned = sketch.apply('Transpose', [name], last, { perm: [0, 2, 3, 1] })
  const shifted = sketch.apply('Add', [turned.name, sketch.weights([channels], { deviation: 0.3 })], last)
  return sketch.apply('Transpose', [shifted.name], [channels, height, width], { perm: [0, 3, 1, 2] })
}

/** The channel shuffle of ShuffleNet: Reshape, Transpose, Reshape. */
function shuffle(sketch: Sketch, { name, dims: [channels = 1, height = 1, width = 1] }: Value): Value | undefined {
  if (channels % 2 !== 0) return undefined
  const [cut, turned] = [sketch.name('t'), sketch.name('t')]
  sketch.add('Reshape', [name, sketch.int64s([0, 2, channels / 2, height, width])], [cut])
  sketch.add('Transpose', [cut], [turned], { perm: [0, 2, 1, 3, 4] })
  return sketch.apply('Reshape', [turned, sketch.int64s([0, channels, height, width])], [channels, height, width])
}

function toSequence(sketch: Sketch, { name, dims: [channels = 1, height = 1, width = 1] }: Value): Value | undefined {
  if (height * width > 40) return undefined
  const flat = sketch.apply('Reshape', [name, sketch.int64s([0, channels, -1])], [channels, height * width])
  return sketch.chance(0.7) ? sketch.apply('Transpose', [flat.name], [height * width, channels], { perm: [0, 2, 1] }) : flat
}
