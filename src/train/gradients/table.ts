// The operators that can be trained through, by their names in ai.onnx.
import type { Gradient } from '../gradient.js'
import { clip, elu, gelu, hardSigmoid, hardSwish, leakyRelu, pRelu, relu, sigmoid, softplus, tanh } from './activations.js'
import { add, div, mul, sub } from './arithmetic.js'
import { conv, convTranspose } from './convolution.js'
import { abs, cos, erf, exp, log, neg, pow, reciprocal, sin, sqrt } from './elementary.js'
import { batchNormalization, groupNormalization, instanceNormalization, layerNormalization } from './normalization.js'
import { averagePool, globalAveragePool, globalMaxPool, maxPool } from './pooling.js'
import { gemm, matMul } from './products.js'
import { recurrent } from './recurrent.js'
import { reduceMean, reduceSum } from './reductions.js'
import { resize } from './resize.js'
import { extreme, where } from './selection.js'
import { identity, reshaped } from './shapes.js'
import { logSoftmax, softmax, softmaxCrossEntropyLoss } from './softmax.js'

export const gradients: ReadonlyMap<string, Gradient> = new Map(
  Object.entries({
    Abs: abs,
    Add: add,
    AveragePool: averagePool,
    BatchNormalization: batchNormalization,
    Clip: clip,
    Conv: conv,
    ConvTranspose: convTranspose,
    Cos: cos,
    Div: div,
    Elu: elu,
    Erf: erf,
    Exp: exp,
    Flatten: reshaped,
    GRU: recurrent,
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
    Pow: pow,
    RNN: recurrent,
    Reciprocal: reciprocal,
    ReduceMean: reduceMean,
    ReduceSum: reduceSum,
    Relu: relu,
    Reshape: reshaped,
    Resize: resize,
    Sigmoid: sigmoid,
    Sin: sin,
    Softmax: softmax,
    SoftmaxCrossEntropyLoss: softmaxCrossEntropyLoss,
    Softplus: softplus,
    Sqrt: sqrt,
    Squeeze: reshaped,
    Sub: sub,
    Sum: add,
    Tanh: tanh,
    Unsqueeze: reshaped,
    Where: where,
  }),
)
