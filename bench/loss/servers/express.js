// express.
'use strict'

const express = require('express')
const { Readable } = require('node:stream')
const { digest, chunks } = require('./answers')
const { open } = require('./endpoint')

const app = express()
app.use((request, response, next) => {
  response.set('X-Worker', process.pid)
  next()
})
app.use(express.raw({ type: () => true, limit: '1mb' }))
app.get('/', (request, response) => response.send(request.query.n))
app.get('/slow', (request, response) => Readable.from(chunks(request.query.n)).pipe(response))
app.post(['/post', '/upload'], (request, response) => response.send(digest(request.body)))
open(app.listen(0, '127.0.0.1'))
