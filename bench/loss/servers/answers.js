// What the servers answer, whatever they are made with. Each answer can be foretold by who asked for it.
'use strict'

const { setTimeout: pause } = require('node:timers/promises')

const CHUNKS = 10
const CHUNK_EVERY_MS = 100

// The length of a body and its FNV-1a hash: a body that was cut or mixed up has another one.
function digest(body) {
  let hash = 0x811c9dc5
  for (let i = 0; i < body.length; i++) hash = Math.imul(hash ^ body[i], 0x01000193)
  return `${body.length} ${(hash >>> 0).toString(16)}`
}

// The chunks of a response that is streamed for a second.
async function* chunks(n) {
  for (let i = 0; i < CHUNKS; i++) {
    yield `${n}: ${i} of ${CHUNKS}\n`
    await pause(CHUNK_EVERY_MS)
  }
}

// The same routes for node:http, node:https and node:http2.
async function handle(request, response) {
  const url = new URL(request.url, 'http://localhost')
  const n = url.searchParams.get('n')
  response.setHeader('X-Worker', process.pid)
  if (request.method === 'POST') {
    const parts = []
    for await (const part of request) parts.push(part)
    response.end(digest(Buffer.concat(parts)))
  } else if (url.pathname === '/slow') {
    for await (const chunk of chunks(n)) response.write(chunk)
    response.end()
  } else {
    response.end(n)
  }
}

// A client that goes away in the middle of its body is not an error of the server's.
module.exports = { digest, chunks, handle: (request, response) => handle(request, response).catch(() => response.destroy()) }
