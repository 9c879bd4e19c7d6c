// The server of bench/balance, the same for every contender. GET / answers at once with the pid of the worker.
// GET /block does so after the worker has stood still, as one does in a long computation or a synchronous call: it
// sleeps, so that no core is taken from the others and what is measured is where connections go.

'use strict'

const fs = require('node:fs')
const http = require('node:http')

const BLOCK_MS = 50
const still = new Int32Array(new SharedArrayBuffer(4))

const body = `${process.pid}\n`
const server = http.createServer((request, response) => {
  if (request.url === '/block') Atomics.wait(still, 0, 0, BLOCK_MS)
  response.end(body)
})
// Connections are held until all have been opened, which may take longer than Node's five seconds on a busy machine.
server.keepAliveTimeout = 60_000

server.listen(Number(process.env.PORT), '127.0.0.1', () => {
  const time = Number(process.hrtime.bigint())
  const event = { event: 'listening', time, pid: process.pid, port: server.address().port }
  fs.appendFileSync(process.env.BENCH_EVENTS, JSON.stringify(event) + '\n')
})
