// node:http, on TCP and on a unix socket.
'use strict'

const http = require('node:http')
const { handle } = require('./answers')
const { open } = require('./endpoint')

for (const place of [{ port: 0, host: '127.0.0.1' }, { path: process.env.LOSS_SOCKET }]) {
  const server = http.createServer(handle)
  open(server)
  server.listen(place)
}
