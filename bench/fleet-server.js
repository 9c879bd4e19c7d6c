// A machine of the fleet: the answers of the loss meter's servers, on every address of its network.
'use strict'

const http = require('node:http')
const { handle } = require('./loss/servers/answers')

const server = http.createServer(handle)
// Longer than a balancer keeps a connection idle that it may use again.
server.keepAliveTimeout = 10_000
server.listen(8080)
