const http = require('node:http')
const { Server } = require('socket.io')

const server = http.createServer()
const io = new Server(server)
io.on('connection', (socket) => {
  socket.on('worker', (reply) => reply(`worker=${process.pid}`))
})
server.listen(3000)

// The worker is to leave: its clients come back to another one.
process.on('message', ({ cmd }) => {
  if (cmd === 'disconnect') io.local.disconnectSockets(true)
})
