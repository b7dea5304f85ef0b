// The thread of one stage.
import { parentPort, workerData, type MessagePort } from 'node:worker_threads'
import type { Handover, StageStart, ToStage } from './messages.js'
import { runStage } from './stage.js'

const port = parentPort as MessagePort
const { peers } = workerData as StageStart

runStage({
  send: (message, moved = []) => port.postMessage(message, moved),
  hand: (to, message, moved) => peers.get(to)?.postMessage(message, moved),
  listen: ({ onMessage, onHandover }) => {
    port.on('message', (message: ToStage) => onMessage(message))
    for (const peer of peers.values()) peer.on('message', (message: Handover) => onHandover(message))
  },
  close: () => {
    for (const peer of peers.values()) peer.close()
    port.close()
  },
})
