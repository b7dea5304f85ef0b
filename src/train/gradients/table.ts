// The operators that can be trained through, by their names in ai.onnx.
import type { Gradient } from '../gradient.js'
import { relu } from './activations.js'
import { add, div, mul, sub } from './arithmetic.js'
import { conv, convTranspose } from './convolution.js'
import { batchNormalization, groupNormalization, instanceNormalization, layerNormalization } from './normalization.js'
import { averagePool, globalAveragePool, globalMaxPool, maxPool } from './pooling.js'
import { gemm, matMul } from './products.js'
import { recurrent } from './recurrent.js'
import { reduceMean, reduceSum } from './reductions.js'
import { resize } from './resize.js'
import { identity, reshaped } from './shapes.js'
import { logSoftmax, softmax, softmaxCrossEntropyLoss } from './softmax.js'

export const gradients: ReadonlyMap<string, Gradient> = new Map(
  Object.entries({
    Add: add,
    AveragePool: averagePool,
    BatchNormalization: batchNormalization,
    Conv: conv,
    ConvTranspose: convTranspose,
    Div: div,
    Flatten: reshaped,
    GRU: recurrent,
    Gemm: gemm,
    GlobalAveragePool: globalAveragePool,
    GlobalMaxPool: globalMaxPool,
    GroupNormalization: groupNormalization,
    Identity: identity,
    InstanceNormalization: instanceNormalization,
    LSTM: recurrent,
    LayerNormalization: layerNormalization,
    LogSoftmax: logSoftmax,
    MatMul: matMul,
    MaxPool: maxPool,
    Mul: mul,
    RNN: recurrent,
    ReduceMean: reduceMean,
    ReduceSum: reduceSum,
    Relu: relu,
    Reshape: reshaped,
    Resize: resize,
    Softmax: softmax,
    SoftmaxCrossEntropyLoss: softmaxCrossEntropyLoss,
    Squeeze: reshaped,
    Sub: sub,
    Sum: add,
    Unsqueeze: reshaped,
  }),
)
