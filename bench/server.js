// The server that every contender runs, unchanged. It does as little as a server can, so that the way to the
// worker weighs the most. Once it listens it appends one line to the file BENCH_EVENTS, with the time on the
// monotonic clock, which is the same in all processes of the machine.

'use strict'

const fs = require('node:fs')
const http = require('node:http')

const body = `${process.pid}\n`
const server = http.createServer((request, response) => response.end(body))

server.listen(Number(process.env.PORT), '127.0.0.1', () => {
  const time = Number(process.hrtime.bigint())
  const event = { event: 'listening', time, pid: process.pid, port: server.address().port }
  fs.appendFileSync(process.env.BENCH_EVENTS, JSON.stringify(event) + '\n')
})
