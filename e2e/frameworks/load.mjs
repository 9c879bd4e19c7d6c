// Clients that ask a server without end, and count what they asked and what they lost.
//
// A client is an object with `ask()`, which resolves to an answer that names the worker, and `close()`. A request is lost
// if `ask()` rejects: no connection, a connection that ended before the answer, a status other than 200, or no answer
// within the deadline.

import http from 'node:http'

export const DEADLINE = 60_000

// Asks for `path` over HTTP. With an agent that keeps its connections, it respects `Connection: close` and the server's
// `Keep-Alive: timeout`, and never sends a request twice.
const httpClient = (base, path, keepAlive) => {
  const agent = new http.Agent({ keepAlive, maxSockets: 1 })
  const ask = () => new Promise((resolve, reject) => {
    const request = http.get(new URL(path, base), { agent, timeout: DEADLINE }, (response) => {
      const parts = []
      response.on('data', (part) => parts.push(part))
      response.on('error', reject)
      response.on('end', () => {
        const body = Buffer.concat(parts).toString()
        if (response.statusCode === 200) resolve(body)
        else reject(new Error(`status ${response.statusCode}: ${body.slice(0, 200)}`))
      })
    })
    request.on('timeout', () => request.destroy(new Error('no answer in time')))
    request.on('error', (error) => {
      error.message += request.reusedSocket ? ' (on a kept connection)' : ' (on a new connection)'
      reject(error)
    })
  })
  return { ask, close: () => agent.destroy() }
}

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds))

// What a browser, a proxy with a pool, and a program without one do: [how many, the pause after an answer, the client].
const httpClients = (base, path) => [
  [6, () => 2, () => httpClient(base, path, true)],
  [4, () => 1000 * Math.random(), () => httpClient(base, path, true)],
  [2, () => 5, () => httpClient(base, path, false)],
]

export class Load {
  asked = 0
  lost = []
  workers = new Set()
  #stopped = false

  // `connect` makes a client that is not of HTTP.
  constructor(base, { path = '/', connect } = {}) {
    const kinds = connect ? [[6, () => 5, () => connect(base)]] : httpClients(base, path)
    const clients = kinds.flatMap(([count, think, make]) => Array.from({ length: count }, () => this.#run(make, think)))
    this.ended = Promise.all(clients)
  }

  async #run(make, think) {
    const client = await make()
    while (!this.#stopped) {
      this.asked += 1
      try {
        this.#heard(await client.ask())
      } catch (error) {
        this.lost.push(`${error.code ?? ''} ${error.message}`.trim())
        await pause(100)
      }
      await pause(think())
    }
    await client.close()
  }

  #heard(answer) {
    const worker = /worker=(\d+)/.exec(answer)?.[1]
    if (!worker) throw new Error(`an answer without its worker: ${answer.slice(0, 200)}`)
    this.workers.add(Number(worker))
  }

  // Resolves when each of these workers has answered.
  async heardOf(pids) {
    const late = Date.now() + DEADLINE
    while (!pids.every((pid) => this.workers.has(pid))) {
      if (Date.now() > late) throw new Error(`of the workers ${pids} only ${[...this.workers]} answered`)
      await pause(20)
    }
  }

  async stop() {
    this.#stopped = true
    await this.ended
  }
}
