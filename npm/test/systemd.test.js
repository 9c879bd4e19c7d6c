// Where systemd has started the host (`Type=notify`), it is told how the cluster does, unless the host does that itself.
'use strict'

const assert = require('node:assert/strict')
const { spawn } = require('node:child_process')
const { once } = require('node:events')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')
const readline = require('node:readline')

const { test } = require('./lib/host')
const { until } = require('./lib/wait')

// Node has no datagram sockets in the file system.
const READS = `
import json, socket, sys
manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
manager.bind(sys.argv[1])
print('"bound"', flush=True)
while True:
    print(json.dumps(manager.recv(4096).decode()), flush=True)
`

// A service manager that has started this process, as the body of a test: `heard` are the lines that it was told.
async function under (body, variables = {}) {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'recluster-'))
  const socket = path.join(directory, 'notify')
  const child = spawn('python3', ['-c', READS, socket], { stdio: ['ignore', 'pipe', 'inherit'] })
  const heard = []
  readline.createInterface({ input: child.stdout }).on('line', (line) => heard.push(...JSON.parse(line).split('\n')))
  await until('the manager to listen', () => heard.length > 0)
  Object.assign(process.env, { NOTIFY_SOCKET: socket, ...variables })
  try {
    await body(heard)
  } finally {
    child.kill()
    await once(child, 'exit')
    fs.rmSync(directory, { recursive: true })
  }
}

const turns = (heard) => heard.filter((line) => ['READY=1', 'RELOADING=1', 'STOPPING=1'].includes(line))
const listening = { args: ['listen'] }

test.ours('it is told of the start, of reloads and of the last verdict, and of no stop: the process goes on', ({ serve }) => under(async (heard) => {
  const made = await serve('puppet.js', { ...listening, workers: 2 })
  await until('READY=1', () => turns(heard).length === 1)
  assert.ok(heard.includes('STATUS=running: 2 of 2 workers serve, generation 1'))
  await made.reload()
  await until('READY=1', () => turns(heard).length === 3)
  assert.deepEqual(turns(heard), ['READY=1', 'RELOADING=1', 'READY=1'])
  assert.ok(heard.some((line) => line.endsWith('last reload: generation 2 came to serve')))
  await made.shutdown()
  await until('the status of a stop', () => heard.some((line) => line.startsWith('STATUS=stopping: ')))
  assert.equal(turns(heard).length, 3)
  const next = await serve('puppet.js', { ...listening, workers: 1 })
  await until('READY=1', () => turns(heard).length === 4)
  await next.terminate()
}))

test.ours('of two clusters the first one tells', ({ make, serve }) => under(async (heard) => {
  const first = make('puppet.js', { args: [], workers: 1 })
  first.run()
  await serve('puppet.js', { ...listening, workers: 1 })
  await until('a status', () => heard.includes('STATUS=starting: 0 of 1 workers serve, generation 1'))
  assert.deepEqual(turns(heard), [], 'the first one is not ready')
}))

test.ours('a watchdog hears of the engine', ({ serve }) => under(async (heard) => {
  await serve('puppet.js', { ...listening, workers: 1 })
  await until('WATCHDOG=1', () => heard.filter((line) => line === 'WATCHDOG=1').length >= 3)
}, { WATCHDOG_USEC: '100000' }))

test.ours('`systemd: false`: it is told nothing', ({ serve }) => under(async (heard) => {
  const made = await serve('puppet.js', { ...listening, workers: 1, systemd: false })
  await made.reload()
  await made.shutdown()
  assert.deepEqual(heard.filter((line) => line !== '' && line !== 'bound'), [])
}))
