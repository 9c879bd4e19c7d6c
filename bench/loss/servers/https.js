// node:https.
'use strict'

const https = require('node:https')
const { handle } = require('./answers')
const { open } = require('./endpoint')
const identity = require('./identity')

const server = https.createServer(identity, handle)
open(server, { tls: true })
server.listen(0, '127.0.0.1')
