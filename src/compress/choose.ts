// The presets: from what a model is made of to a recipe, with the reason in words. Pure.
import type { Recipe } from '../measurements.js'
import { tensorElements } from './elements.js'
import type { Model } from './passes/pass.js'
import { parseRecipe, type Preset } from './recipe.js'
import { GraphIndex } from '../onnx/graph.js'

export interface Choice {
  recipe: Recipe
  because: string
}

/** `hasSamples`: whether there are real inputs to calibrate on. */
export function choosePreset(preset: Preset, model: Model, { hasSamples }: { hasSamples: boolean }): Choice {
  switch (preset) {
    case 'int8':
      return chooseInt8(model, hasSamples)
  }
}

/** A vision transformer cuts its image into patches by one small convolution; that makes it no convolutional network. */
const LEAST_CONVOLUTION_SHARE = 0.05

/**
 * Static where convolutions do the work, because the runtime has no fast dynamic int8 convolution; dynamic
 * where products of matrices do, because it needs no calibration and loses less.
 */
function chooseInt8({ graph }: Model, hasSamples: boolean): Choice {
  const index = new GraphIndex(graph)
  const weightsOf = (opTypes: readonly string[]) =>
    graph.node.filter(({ opType }) => opTypes.includes(opType)).map(({ input }) => tensorElements(index.constantProto(input[1] ?? '')?.dims))
  const convolutions = weightsOf(['Conv', 'ConvTranspose'])
  const products = weightsOf(['MatMul', 'Gemm']).filter((count) => count > 0)
  const made = `${convolutions.length} convolutions and ${products.length} products with constant weights`
  const share = sum(convolutions) / Math.max(1, sum(convolutions) + sum(products))
  if (convolutions.length > 0 && products.length > 0 && share < LEAST_CONVOLUTION_SHARE) {
    const because = `the model has ${made}; only ${(share * 100).toFixed(1)} % of the weights are in convolutions, and products are better off with dynamic int8`
    return { recipe: recipeOf('int8-dynamic'), because }
  }
  if (convolutions.length === 0)
    return { recipe: recipeOf('int8-dynamic'), because: `the model has ${made}: dynamic int8 speeds products up and needs no calibration` }
  if (!hasSamples) {
    return {
      recipe: recipeOf('int8-dynamic'),
      because: `the model has ${made}; static int8 would be faster, but there are no sample inputs to calibrate on, so only products are quantized`,
    }
  }
  return { recipe: recipeOf('int8-static'), because: `the model has ${made}: only static int8 speeds convolutions up, and there are samples to calibrate on` }
}

function sum(counts: readonly number[]): number {
  return counts.reduce((total, count) => total + count, 0)
}

function recipeOf(pass: string): Recipe {
  return parseRecipe(pass).recipe ?? []
}
