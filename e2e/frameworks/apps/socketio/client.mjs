// What to ask the server for: clients that begin with polling, and clients that know only WebSockets, each with an address
// and a name of its own.

import http from 'node:http'
import { io } from 'socket.io-client'

let count = 0

export const connect = (base) => {
  count += 1
  const socket = io(base, {
    forceNew: true,
    transports: count % 2 ? ['polling', 'websocket'] : ['websocket'],
    agent: new http.Agent({ localAddress: `127.0.0.${count}` }),
    query: { client: `client-${count}` },
    reconnectionDelay: 50,
    // What was not acknowledged is sent again: a message that is under way when a connection ends may be lost.
    retries: 3,
    ackTimeout: 10_000,
  })
  // A client of socket.io does not come back by itself where the server has ended the connection.
  socket.on('disconnect', (reason) => {
    if (reason === 'io server disconnect') socket.connect()
  })
  return { ask: () => socket.emitWithAck('worker'), close: () => socket.close() }
}
