// An express application with a stream of events that never ends by itself:
//
//     npm install --prefix examples/express
//     recluster examples/express/server.js -w 2
//
//     curl http://127.0.0.1:8080/                        which worker answers?
//     curl --no-buffer http://127.0.0.1:8080/events      one event a second, until the worker is replaced
//     kill -USR2 PID_OF_RECLUSTER                        reload: /events ends, and a browser would reconnect
//
// PORT chooses another port; with 0 the kernel picks one, and it is printed.

'use strict'

const express = require('express')

const port = Number(process.env.PORT || 8080)
const identity = {
  worker: process.env.WORKER_ID,
  pid: process.pid,
  generation: process.env.RECLUSTER_GENERATION,
}

const app = express()
const streams = new Set()

app.get('/', (request, response) => {
  response.json(identity)
})

app.get('/events', (request, response) => {
  response.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-cache' })
  const tick = () => response.write(`data: ${JSON.stringify(identity)}\n\n`)
  const timer = setInterval(tick, 1000)
  streams.add(response)
  response.on('close', () => {
    clearInterval(timer)
    streams.delete(response)
  })
  tick()
})

// The server closes once its last response has ended, and a stream of events would keep it open. The master
// sends this message before it lets a worker go, so that what does not end by itself can be ended.
process.on('message', (message) => {
  if (message?.cmd === 'disconnect') {
    for (const stream of streams) stream.end()
  }
})

const server = app.listen(port, '127.0.0.1', (error) => {
  if (error) throw error
  console.log(`${process.pid} listens on http://127.0.0.1:${server.address().port}`)
})
