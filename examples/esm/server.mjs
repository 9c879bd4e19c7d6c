// An ES module that has work to do before it can serve. A worker is ready when it listens, so a reload waits
// for the top-level await, and the old workers serve until then:
//
//     recluster examples/esm/server.mjs -w 2
//     PORT=0 recluster examples/esm/server.mjs -w 2      the kernel picks the port, and it is printed
//
//     curl http://127.0.0.1:8080/                        which worker answers?

import { createServer } from 'node:http'
import { readFile } from 'node:fs/promises'

const port = Number(process.env.PORT || 8080)
const source = await readFile(new URL(import.meta.url), 'utf8')

const server = createServer((request, response) => {
  response.setHeader('Content-Type', 'application/json')
  response.end(JSON.stringify({
    worker: process.env.WORKER_ID,
    pid: process.pid,
    generation: process.env.RECLUSTER_GENERATION,
    lines: source.split('\n').length,
  }) + '\n')
})

server.on('close', () => console.log(`${process.pid} has cleaned up`))

server.listen(port, '127.0.0.1', () => {
  console.log(`${process.pid} listens on http://127.0.0.1:${server.address().port}`)
})
