// The operators that can be trained through, by their names in ai.onnx.
import type { Gradient } from '../gradient.js'
import { clip, elu, gelu, hardSigmoid, hardSwish, leakyRelu, pRelu, relu, sigmoid, softplus, tanh } from './activations.js'
import { add, div, mul, sub } from './arithmetic.js'
import { conv, convTranspose } from './convolution.js'
import { abs, cos, erf, exp, log, neg, pow, reciprocal, sin, sqrt } from './elementary.js'
import { cast, dropout, identity } from './identities.js'
import { gather, gatherElements } from './lookups.js'
import { batchNormalization, groupNormalization, instanceNormalization, layerNormalization } from './normalization.js'
import { concat, pad, slice, split } from './parts.js'
import { averagePool, globalAveragePool, globalMaxPool, maxPool } from './pooling.js'
import { gemm, matMul } from './products.js'
import { recurrent } from './recurrent.js'
import { reduceExtreme, reduceL1, reduceL2, reduceLogSumExp, reduceMean, reduceSum, reduceSumSquare } from './reductions.js'
import { resize } from './resize.js'
import { extreme, where } from './selection.js'
import { expand, reshaped, tile, transpose } from './shapes.js'
import { logSoftmax, softmax, softmaxCrossEntropyLoss } from './softmax.js'

export const gradients: ReadonlyMap<string, Gradient> = new Map(
  Object.entries({
    Abs: abs,
    Add: add,
    AveragePool: averagePool,
    BatchNormalization: batchNormalization,
    Cast: cast,
    Clip: clip,
    Concat: concat,
    Conv: conv,
    ConvTranspose: convTranspose,
    Cos: cos,
    Div: div,
    Dropout: dropout,
    Elu: elu,
    Erf: erf,
    Exp: exp,
    Expand: expand,
    Flatten: reshaped,
    GRU: recurrent,
    Gather: gather,
    GatherElements: gatherElements,
    Gelu: gelu,
    Gemm: gemm,
    GlobalAveragePool: globalAveragePool,
    GlobalMaxPool: globalMaxPool,
    GroupNormalization: groupNormalization,
    HardSigmoid: hardSigmoid,
    HardSwish: hardSwish,
    Identity: identity,
    InstanceNormalization: instanceNormalization,
    LSTM: recurrent,
    LayerNormalization: layerNormalization,
    LeakyRelu: leakyRelu,
    Log: log,
    LogSoftmax: logSoftmax,
    MatMul: matMul,
    Max: extreme,
    MaxPool: maxPool,
    Min: extreme,
    Mul: mul,
    Neg: neg,
    PRelu: pRelu,
    Pad: pad,
    Pow: pow,
    RNN: recurrent,
    Reciprocal: reciprocal,
    ReduceL1: reduceL1,
    ReduceL2: reduceL2,
    ReduceLogSumExp: reduceLogSumExp,
    ReduceMax: reduceExtreme,
    ReduceMean: reduceMean,
    ReduceMin: reduceExtreme,
    ReduceSum: reduceSum,
    ReduceSumSquare: reduceSumSquare,
    Relu: relu,
    Reshape: reshaped,
    Resize: resize,
    Sigmoid: sigmoid,
    Sin: sin,
    Slice: slice,
    Softmax: softmax,
    SoftmaxCrossEntropyLoss: softmaxCrossEntropyLoss,
    Softplus: softplus,
    Split: split,
    Sqrt: sqrt,
    Squeeze: reshaped,
    Sub: sub,
    Sum: add,
    Tanh: tanh,
    Tile: tile,
    Transpose: transpose,
    Unsqueeze: reshaped,
    Where: where,
  }),
)
