// What every server does beside answering: it reports to the meter where it listens, echoes WebSocket messages on /ws, and
// leaves as its master expects.
'use strict'

const fs = require('node:fs')
const { WebSocketServer } = require('ws')

const servers = []
const sockets = new WebSocketServer({ noServer: true })

function append(file, record) {
  fs.appendFileSync(file, JSON.stringify(record) + '\n')
}

// A server that listens or is about to. `tls` and `h2` say what a client has to speak.
function open(server, { tls = false, h2 = false } = {}) {
  servers.push(server)
  server.on('listening', () => {
    const address = server.address()
    const endpoint = typeof address === 'string' ? { path: address, tls, h2 } : { port: address.port, tls, h2 }
    append(process.env.LOSS_EVENTS, { pid: process.pid, endpoint })
  })
  server.on('upgrade', (request, socket, head) => {
    sockets.handleUpgrade(request, socket, head, (webSocket) => sockets.emit('connection', webSocket))
  })
  const journal = process.env.LOSS_JOURNAL
  if (!journal) return
  server.on('connection', (socket) => {
    append(journal, { pid: process.pid, port: socket.remotePort, unix_ms: Date.now() })
  })
}

sockets.on('headers', (headers) => headers.push(`X-Worker: ${process.pid}`))
sockets.on('connection', (socket) => {
  if (leaving) socket.send('bye')
  socket.on('error', () => {})
  socket.on('message', (data) => socket.send(data.toString()))
})

// WebSockets have no `Connection: close`: their server has to say goodbye. The clients finish what they are at, and
// close.
let leaving = false
function sayGoodbye() {
  leaving = true
  for (const socket of sockets.clients) socket.send('bye')
}

if (process.env.pm_id === undefined) {
  process.on('message', (message) => {
    if (message && message.cmd === 'disconnect') sayGoodbye()
  })
} else {
  // pm2 sends SIGINT and, after its kill timeout, SIGKILL. Its documentation has the application close its server and
  // exit.
  process.on('SIGINT', () => {
    sayGoodbye()
    const closed = servers.map((server) => new Promise((resolve) => server.close(resolve)))
    Promise.all(closed).then(() => process.exit(0))
  })
}

module.exports = { open }
