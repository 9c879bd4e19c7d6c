// A TypeScript file, run as it is: Node 22.18 and newer strip the types themselves. Only syntax that can be
// erased is allowed (no enum, no namespace, no parameter properties).
//
//     recluster examples/typescript/server.ts -w 2
//     PORT=0 recluster examples/typescript/server.ts -w 2      the kernel picks the port, and it is printed
//
//     curl http://127.0.0.1:8080/                              which worker answers?

import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

interface Identity {
  worker?: string
  pid: number
  generation?: string
}

const port: number = Number(process.env.PORT || 8080)
const identity: Identity = {
  worker: process.env.WORKER_ID,
  pid: process.pid,
  generation: process.env.RECLUSTER_GENERATION,
}

const server = createServer((request: IncomingMessage, response: ServerResponse): void => {
  response.setHeader('Content-Type', 'application/json')
  response.end(JSON.stringify(identity) + '\n')
})

server.on('close', () => console.log(`${process.pid} has cleaned up`))

server.listen(port, '127.0.0.1', () => {
  const { port } = server.address() as AddressInfo
  console.log(`${process.pid} listens on http://127.0.0.1:${port}`)
})
