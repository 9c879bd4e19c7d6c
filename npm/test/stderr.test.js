// What workers write to stderr reaches that of the host, however slowly it is read.
// (In version 1 lines of several workers may be mixed where the host's stderr is a socket.)
'use strict'

const assert = require('node:assert/strict')
const { spawn } = require('node:child_process')
const path = require('node:path')

const { onlyOurs, test } = require('./lib/host')
const { runs } = require('./lib/process')
const { until } = require('./lib/wait')

const HOST = path.join(__dirname, 'fixtures', 'hosts', 'serves.js')
const LINES = 100_000

test.beside('not a line is lost, and each worker\'s are in order', onlyOurs, async (t) => {
  const host = spawn(process.execPath, [HOST, 'floods'], { stdio: ['ignore', 'ignore', 'pipe', 'ipc'] })
  const pids = [host.pid]
  t.after(() => pids.filter(runs).forEach((pid) => process.kill(pid, 'SIGKILL')))
  host.on('message', ({ forked }) => forked && pids.push(forked))
  await until('both workers', () => pids.length === 3)
  // Nobody reads for a while: more is said than pipes and queues hold.
  await new Promise((resolve) => setTimeout(resolve, 2000))
  let text = ''
  host.stderr.setEncoding('utf8').on('data', (data) => { text += data })
  const of = (slot) => text.split('\n').filter((line) => line.startsWith(`slot ${slot} line `))
  // The last lines of both are there when as many were read as there are.
  await until('all that they say', () => text.includes(`slot 0 line ${LINES - 1} `) && text.includes(`slot 1 line ${LINES - 1} `))
  for (const slot of [0, 1]) {
    const numbers = of(slot).map((line) => Number(line.split(' ')[3]))
    assert.deepEqual([numbers.length, numbers.findIndex((number, index) => number !== index)], [LINES, -1])
  }
})
