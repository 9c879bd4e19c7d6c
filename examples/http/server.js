// A server with nothing but node:http. It needs no dependency and runs unchanged with and without recluster:
//
//     node examples/http/server.js
//     recluster examples/http/server.js -w 2
//     PORT=0 recluster examples/http/server.js -w 2      the kernel picks the port, and it is printed
//
//     curl http://127.0.0.1:8080/                        which worker answers?
//     kill -USR2 PID_OF_RECLUSTER                        reload: the generation counts up, no request is lost

'use strict'

const http = require('node:http')

const port = Number(process.env.PORT || 8080)
let served = 0

const server = http.createServer((request, response) => {
  served += 1
  response.setHeader('Content-Type', 'application/json')
  response.end(JSON.stringify({
    worker: process.env.WORKER_ID,
    pid: process.pid,
    generation: process.env.RECLUSTER_GENERATION,
  }) + '\n')
})

const report = setInterval(() => console.log(`${process.pid} has served ${served} requests`), 60_000)

// After a reload the old worker's servers are closed. Whatever else keeps the process alive ends here:
// with this timer left running, the old worker would stay until it is told to go with SIGTERM.
server.on('close', () => {
  clearInterval(report)
  console.log(`${process.pid} has cleaned up`)
})

server.listen(port, '127.0.0.1', () => {
  console.log(`${process.pid} listens on http://127.0.0.1:${server.address().port}`)
})
