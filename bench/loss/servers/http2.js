// node:http2 with TLS, for clients of HTTP/1 too.
'use strict'

const http2 = require('node:http2')
const { handle } = require('./answers')
const { open } = require('./endpoint')
const identity = require('./identity')

const server = http2.createSecureServer({ ...identity, allowHTTP1: true }, handle)
open(server, { tls: true, h2: true })
server.listen(0, '127.0.0.1')
