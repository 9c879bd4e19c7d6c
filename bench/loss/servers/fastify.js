// fastify.
'use strict'

const { Readable } = require('node:stream')
const { digest, chunks } = require('./answers')
const { open } = require('./endpoint')

const app = require('fastify')({ bodyLimit: 1024 * 1024 })
app.addHook('onRequest', (request, reply, done) => {
  reply.header('X-Worker', process.pid)
  done()
})
app.addContentTypeParser('*', { parseAs: 'buffer' }, async (request, body) => body)
app.get('/', async (request) => request.query.n)
app.get('/slow', async (request, reply) => reply.send(Readable.from(chunks(request.query.n))))
app.post('/post', async (request) => digest(request.body))
app.post('/upload', async (request) => digest(request.body))
open(app.server)
app.listen({ port: 0, host: '127.0.0.1' })
