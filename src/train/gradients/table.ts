// The operators that can be trained through, by their names in ai.onnx.
import type { Gradient } from '../gradient.js'
import { relu } from './activations.js'
import { add, div, mul, sub } from './arithmetic.js'
import { conv, convTranspose } from './convolution.js'
import { gemm, matMul } from './products.js'
import { reduceMean, reduceSum } from './reductions.js'
import { identity, reshaped } from './shapes.js'
import { logSoftmax, softmax, softmaxCrossEntropyLoss } from './softmax.js'

export const gradients: ReadonlyMap<string, Gradient> = new Map(
  Object.entries({
    Add: add,
    Conv: conv,
    ConvTranspose: convTranspose,
    Div: div,
    Flatten: reshaped,
    Gemm: gemm,
    Identity: identity,
    LogSoftmax: logSoftmax,
    MatMul: matMul,
    Mul: mul,
    ReduceMean: reduceMean,
    ReduceSum: reduceSum,
    Relu: relu,
    Reshape: reshaped,
    Softmax: softmax,
    SoftmaxCrossEntropyLoss: softmaxCrossEntropyLoss,
    Squeeze: reshaped,
    Sub: sub,
    Sum: add,
    Unsqueeze: reshaped,
  }),
)
