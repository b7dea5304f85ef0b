// Recurrent layers are not trained through: their gates are not outputs of the operators, so that a backward pass would
// need the layer unrolled step by step.
import type { Gradient } from '../gradient.js'

export const recurrent: Gradient = ({ refuse }) => refuse('recurrent layers have no gradient; train only what comes after it, or use a student without one')
