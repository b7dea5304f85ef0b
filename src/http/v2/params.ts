// Path parameters shared by the v2 routes.
import { Type } from 'typebox'
import { strict } from '../answers.js'

const model = Type.String({ description: 'Name of the model', examples: ['scale'] })

export const ModelParams = Type.Object({ model }, strict)
export const VersionParams = Type.Object({ model, version: Type.String({ examples: ['1'] }) }, strict)
