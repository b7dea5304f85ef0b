// The baseline: what one writes first. One Fastify route, ONNX Runtime in the main thread, no queue,
// no batches. Takes a raw float32 row, or JSON `{ "data": [numbers] }`, and answers in kind.
import fastify from 'fastify'
import ort from 'onnxruntime-node'

const [file, dimsText, threads] = process.argv.slice(2)
const dims = JSON.parse(dimsText)
const session = await ort.InferenceSession.create(file, threads === 'default' ? {} : { intraOpNumThreads: Number(threads) })
const [input] = session.inputNames
const [output] = session.outputNames

const server = fastify({ bodyLimit: 64 * 2 ** 20 })
server.addContentTypeParser('application/octet-stream', { parseAs: 'buffer' }, (_request, body, done) => done(null, body))
server.post('/', async (request, reply) => {
  const binary = Buffer.isBuffer(request.body)
  const row = binary
    ? new Float32Array(request.body.buffer.slice(request.body.byteOffset, request.body.byteOffset + request.body.byteLength))
    : request.body.data
  const results = await session.run({ [input]: new ort.Tensor('float32', row, dims) })
  const { data } = results[output]
  if (!binary) return { data: Array.from(data) }
  return reply.type('application/octet-stream').send(Buffer.from(data.buffer, data.byteOffset, data.byteLength))
})
process.send({ url: await server.listen({ host: '127.0.0.1', port: 0 }) })
process.on('disconnect', () => process.exit(0))
