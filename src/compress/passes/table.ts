// The passes that exist. A recipe names them; nothing else registers or discovers anything.
import { fp16 } from './fp16.js'
import { int4 } from './int4.js'
import type { Pass } from './pass.js'
import { pruneChannels } from './prune-channels.js'
import { pruneWeights } from './prune-weights.js'
import { int8Dynamic } from './quantize-dynamic.js'
import { int8Static } from './quantize-static.js'
import { recover } from './recover.js'
import { smoothQuant } from './smooth-quant.js'
import { simplify } from './simplify.js'

export const passes: readonly Pass[] = [int8Static, int8Dynamic, int4, fp16, pruneChannels, pruneWeights, recover, simplify, smoothQuant]

export function passNamed(name: string): Pass | undefined {
  return passes.find((pass) => pass.name === name)
}
