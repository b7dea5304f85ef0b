// What each version of ai.onnx from 8 to 21 changed without changing what an older model means: element
// types were added, optional inputs or attributes whose default is the old behaviour, negative axes, wording.
// Read off onnx/onnx docs/Changelog.md and version_converter/convert.h; tests hold the whole changelog against it.

const COMPATIBLE: Readonly<Record<number, string>> = {
  8: 'Max MaxPool Mean Min Sum',
  9: 'Cast Constant Flatten Gemm Greater Less MatMul PRelu',
  10: 'AveragePool MaxPool',
  11:
    'ArgMax ArgMin AveragePool Compress Concat Constant Conv ConvTranspose DepthToSpace Equal Flatten Gather Gemm Hardmax If LogSoftmax Loop ' +
    'LpPool MaxPool MaxUnpool NonMaxSuppression OneHot ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ' +
    'ReduceSum ReduceSumSquare Scan Slice Softmax Split Squeeze TopK Unsqueeze',
  12: 'ArgMax ArgMin Clip Constant GatherND Max MaxPool Min Pow ReduceMax ReduceMin',
  13:
    'Abs Add ArgMax ArgMin Cast Ceil Clip Concat Constant DepthToSpace DequantizeLinear Div Dropout Equal Erf Exp Expand Flatten Floor Gather ' +
    'GatherElements GatherND Gemm Greater Identity If IsNaN LRN Less Log Loop MatMul Max Mean MeanVarianceNormalization Min Mod Mul Neg ' +
    'NegativeLogLikelihoodLoss NonZero Pad Pow QuantizeLinear Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ' +
    'ReduceMin ReduceProd ReduceSumSquare Relu Reshape ScatterElements ScatterND Shape Sigmoid Sign Size Slice SoftmaxCrossEntropyLoss ' +
    'SpaceToDepth Sqrt Sub Sum Tanh Tile Transpose',
  14: 'Add CumSum Div GRU Identity LSTM Mul RNN Relu Reshape Sub',
  15: 'BatchNormalization Pow Shape',
  16: 'GreaterOrEqual Identity If LeakyRelu LessOrEqual Loop PRelu Scan ScatterElements ScatterND Where',
  18: 'LpPool OptionalGetElement OptionalHasElement Pad Resize ScatterElements ScatterND',
  19: 'AveragePool Cast CastLike Constant DequantizeLinear Equal Identity If Loop Pad QuantizeLinear Reshape Resize Scan Shape Size',
  20: 'ConstantOfShape IsInf IsNaN ReduceMax ReduceMin',
  21:
    'Cast CastLike Constant ConstantOfShape DequantizeLinear Flatten Identity If Loop Pad QLinearMatMul QuantizeLinear Reshape Scan Shape Size ' +
    'Squeeze Transpose Unsqueeze',
}

// Operators that no version from 8 to 21 changed. SimplifiedLayerNormalization is the runtime's own, in ai.onnx all the same.
const UNCHANGED =
  'Acos Acosh AffineGrid And Asin Asinh Atan Atanh Bernoulli BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor BlackmanWindow Celu ' +
  'CenterCropPad Col2Im ConcatFromSequence ConvInteger Cos Cosh DeformConv Det DynamicQuantizeLinear Einsum Elu EyeLike Gelu GlobalAveragePool ' +
  'GlobalLpPool GlobalMaxPool HammingWindow HannWindow HardSigmoid HardSwish ImageDecoder InstanceNormalization LayerNormalization ' +
  'LpNormalization MatMulInteger MaxRoiPool MelWeightMatrix Mish Multinomial Not Optional Or QLinearConv RandomNormal RandomNormalLike ' +
  'RandomUniform RandomUniformLike Range RegexFullMatch ReverseSequence Round STFT Selu SequenceAt SequenceConstruct SequenceEmpty ' +
  'SequenceErase SequenceInsert SequenceLength SequenceMap Shrink Sin Sinh Softplus Softsign SplitToSequence StringConcat StringNormalizer ' +
  'StringSplit Tan TfIdfVectorizer ThresholdedRelu Trilu Unique Xor SimplifiedLayerNormalization'

/** `<operator>-<version>` of every change that leaves older nodes as they are. */
export const compatibleChanges: ReadonlySet<string> = new Set(
  Object.entries(COMPATIBLE).flatMap(([version, operators]) => operators.split(' ').map((operator) => `${operator}-${version}`)),
)

/** Operators that stayed the same from version 7 (or their first) to 21. */
export const unchangedOperators: ReadonlySet<string> = new Set(UNCHANGED.split(' '))
