// Runs scenarios, each in a process of its own.
'use strict'

const { fork } = require('node:child_process')
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
 * may signal.
 */
function play (module, scenario) {
  return new Promise((resolve, reject) => {
    const execArgv = scenarios[scenario].hostArgv ?? []
    const host = fork(path.join(__dirname, 'stage.js'), [module, scenario], { detached: true, silent: true, execArgv })
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

module.exports = { play, playReference }
