// Runs scenarios, each in a process of its own.
'use strict'

const { fork } = require('node:child_process')
const { once } = require('node:events')
const net = require('node:net')
const os = require('node:os')
const path = require('node:path')

const { reference } = require('../lib/packages')
const { scenarios } = require('./scenarios')

/**
 * Runs a scenario with the reference. Its callback of terminate is never called where the last worker's exit is told before the
 * end of its channel, so it may need another try.
 */
async function playReference (scenario) {
  try {
    return await play(reference, scenario)
  } catch {
    return play(reference, scenario)
  }
}

/**
 * Runs a scenario with an implementation, and gives what was written down. The host has a process group of its own, which a scenario
 * may signal, and where the scenario says which kind it `lends`, a socket as its descriptor 4.
 */
async function play (module, scenario) {
  const { hostArgv: execArgv = [], lends } = scenarios[scenario]
  const given = lends && await bound(lends)
  return new Promise((resolve, reject) => {
    const stdio = ['pipe', 'pipe', 'pipe', 'ipc', ...given ? [given._handle.fd] : []]
    const host = fork(path.join(__dirname, 'stage.js'), [module, scenario], { detached: true, execArgv, stdio })
    if (given) given.close()
    let [told, text] = [null, '']
    for (const stream of [host.stdout, host.stderr]) stream.on('data', (data) => { text += data })
    host.on('message', (message) => { told = message })
    host.on('error', reject)
    host.on('exit', (code, signal) => {
      if (told && !told.failed) return resolve(told.entries)
      const said = told?.entries.map(({ about, text }) => `${about} ${text}\n`).join('')
      reject(new Error(`${scenario}, with ${module}: ${told?.failed ?? `ended with ${signal ?? code}`}\n${said}${text}`))
    })
  })
}

// A server whose socket is of this kind.
async function bound (kind) {
  const file = path.join(os.tmpdir(), `recluster-compare-${process.pid}.sock`)
  const server = net.createServer().listen(kind === 'unix' ? { path: file } : { port: 0, host: '127.0.0.1' })
  await once(server, 'listening')
  return server
}

module.exports = { play, playReference }
