// Clients of the servers in `fixtures/`. No connection is kept, so that none keeps its process alive.
'use strict'

const http = require('node:http')

const { within } = require('./wait')

/** Makes a request of a port of 127.0.0.1, and gives its status and its body, which is read as JSON if it is. */
function request (port, { path = '/', method = 'GET', body, headers } = {}) {
  return within('an answer', (resolve, reject) => {
    const sent = http.request({ host: '127.0.0.1', port, path, method, headers, agent: false }, (response) => {
      let text = ''
      response.setEncoding('utf8')
      response.on('data', (data) => { text += data })
      response.on('error', reject)
      response.on('end', () => resolve({ status: response.statusCode, headers: response.headers, text, body: read(text) }))
    })
    sent.on('error', reject)
    sent.end(body)
  })
}

function read (text) {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** The answer to GET /. */
const get = (port, path) => request(port, { path }).then(({ body }) => body)

/**
 * Begins a request that the server cannot answer before it is finished, and waits until that has read of it.
 * @returns {Promise<{ finish(): Promise<object> }>}  `finish` gives the answer
 */
async function begin (port) {
  const options = { host: '127.0.0.1', port, method: 'POST', agent: false, headers: { Expect: '100-continue' } }
  const sent = http.request(options)
  const answer = within('an answer', (resolve, reject) => {
    sent.on('error', reject)
    sent.on('response', (response) => {
      let text = ''
      response.on('data', (data) => { text += data })
      response.on('end', () => resolve(read(text)))
      response.on('error', reject)
    })
  })
  // Whoever has said that we may go on has the head.
  const isTaken = new Promise((resolve) => sent.on('continue', resolve))
  sent.flushHeaders()
  await Promise.race([isTaken, answer])
  const finish = () => {
    sent.end('the body')
    return answer
  }
  return { finish }
}

module.exports = { begin, get, request }
