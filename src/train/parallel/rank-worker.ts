// The thread of a local rank. Started by URL, never imported.
import { parentPort } from 'node:worker_threads'
import { handedOver } from './messages.js'
import { runRank } from './rank.js'

const port = parentPort
if (port === null) throw new Error('rank-worker.js runs as a worker thread only')

runRank({
  send: (message) => port.postMessage(message, handedOver(message)),
  listen: (onMessage) => port.on('message', onMessage),
  close: () => port.close(),
})
