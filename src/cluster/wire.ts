// Which messages lose precision on the wire, where that is asked for; and ranks of this process that lose the same, so that
// all of a group compute the same bits.
import type { FromRank, ToRank } from '../train/parallel/messages.js'
import type { FromWorker, ToWorker } from './mailbox.js'

/**
 * Parts of sums, and sums, of gradients and movements. Parameters and other state never: what is rounded off there at every
 * step is lost for good.
 */
export function travelsAsHalves(message: ToRank | FromRank | ToWorker | FromWorker): boolean {
  return (message.kind === 'bucket' || message.kind === 'reduced') && message.exact !== true
}
