// Gradients of operators that only move elements: the gradient is moved back.
import type { Gradient } from '../gradient.js'

/** Reshape, Flatten, Squeeze, Unsqueeze: the elements keep their order. */
export const reshaped: Gradient = ({ node, emit, dims, upstream }) => [emit.op('Reshape', [upstream[0] as string, emit.ints(dims(node.input[0] as string))])]

export const identity: Gradient = ({ upstream }) => [upstream[0]]
