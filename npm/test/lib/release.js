// A server file that a test writes anew, as a deployment does.
'use strict'

const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')

const BODIES = {
  // Answers with its version, its pid and its slot.
  serves: (version) => `
    const answer = JSON.stringify({ version: ${JSON.stringify(version)}, pid: process.pid, slot: process.env.WORKER_ID })
    require('http').createServer((request, response) => response.end(answer)).listen(0, '127.0.0.1')`,
  // Does not start.
  throws: (version) => `
    console.error('about to fail')
    throw new Error('version ${version} is broken')`,
  // Serves in slot 0, and does not start in any other.
  'serves in part': (version) => `
    if (process.env.WORKER_ID !== '0') throw new Error('version ${version} is broken')
    ${BODIES.serves(version)}`,
  // Starts, and is never ready.
  waits: () => `
    setInterval(() => {}, 1000)`
}

class Release {
  #directory = fs.mkdtempSync(path.join(os.tmpdir(), 'recluster-release-'))

  /** The server file. */
  file = path.join(this.#directory, 'server.js')

  /** Puts a version there: one that `serves`, on a port that all versions have in common, `serves in part`, `throws`, or `waits`. */
  put (what, version) {
    fs.writeFileSync(this.file, `'use strict'\n${BODIES[what](version).trim()}\n`)
  }

  remove () {
    fs.rmSync(this.#directory, { recursive: true })
  }
}

module.exports = { Release }
