// The ceiling: a bare Fastify route that sends back what came.
import fastify from 'fastify'

const server = fastify({ bodyLimit: 64 * 2 ** 20 })
server.addContentTypeParser('application/octet-stream', { parseAs: 'buffer' }, (_request, body, done) => done(null, body))
server.post('/', async (request, reply) => {
  if (Buffer.isBuffer(request.body)) reply.type('application/octet-stream')
  return request.body
})
process.send({ url: await server.listen({ host: '127.0.0.1', port: 0 }) })
process.on('disconnect', () => process.exit(0))
