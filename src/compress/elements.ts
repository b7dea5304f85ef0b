// Counting elements of stored tensors.

/** Number of elements of a TensorProto's dims; 0 when there is no tensor. */
export function tensorElements(dims: readonly bigint[] | undefined): number {
  return dims === undefined ? 0 : dims.reduce((product, dim) => product * Number(dim), 1)
}
