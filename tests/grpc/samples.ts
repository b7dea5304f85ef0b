// Two elements of every datatype as a client sends them, typed and raw, the bytes written out by hand.

/** Typed contents of two elements each, and their raw bytes. */
export const samples: Record<string, { field?: string; values: unknown[]; raw: Uint8Array }> = {
  float32: { field: 'fp32_contents', values: [1.5, -Infinity], raw: new Uint8Array(Float32Array.of(1.5, -Infinity).buffer) },
  float64: { field: 'fp64_contents', values: [1e300, -0.1], raw: new Uint8Array(Float64Array.of(1e300, -0.1).buffer) },
  float16: { values: [], raw: Uint8Array.of(0, 0x3c, 0, 0xc0) },
  uint8: { field: 'uint_contents', values: [0, 255], raw: Uint8Array.of(0, 255) },
  int8: { field: 'int_contents', values: [-128, 127], raw: Uint8Array.of(128, 127) },
  uint16: { field: 'uint_contents', values: [1, 65535], raw: Uint8Array.of(1, 0, 255, 255) },
  int16: { field: 'int_contents', values: [-1, 256], raw: Uint8Array.of(255, 255, 0, 1) },
  uint32: { field: 'uint_contents', values: [1, 4294967295], raw: Uint8Array.of(1, 0, 0, 0, 255, 255, 255, 255) },
  int32: { field: 'int_contents', values: [-2147483648, 1], raw: Uint8Array.of(0, 0, 0, 128, 1, 0, 0, 0) },
  uint64: { field: 'uint64_contents', values: ['18446744073709551615', '1'], raw: new Uint8Array(BigUint64Array.of(2n ** 64n - 1n, 1n).buffer) },
  int64: { field: 'int64_contents', values: ['-9007199254740993', '1'], raw: new Uint8Array(BigInt64Array.of(-9007199254740993n, 1n).buffer) },
  bool: { field: 'bool_contents', values: [true, false], raw: Uint8Array.of(1, 0) },
  string: {
    field: 'bytes_contents',
    values: [Buffer.from('né'), Buffer.from('')],
    raw: Buffer.concat([Uint8Array.of(3, 0, 0, 0), Buffer.from('né'), Uint8Array.of(0, 0, 0, 0)]),
  },
}
