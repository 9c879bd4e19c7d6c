// Workers are in the process group of their host: what is sent to that, as ^C in a terminal does, reaches them too, as it did in
// version 1. What the engine sends reaches no process but the worker that is meant.
'use strict'

const assert = require('node:assert/strict')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')

const { begin, get } = require('./lib/client')
const { onlyOurs, test } = require('./lib/host')
const { runs } = require('./lib/process')
const { Program } = require('./lib/program')
const { until } = require('./lib/wait')

const HOST = path.join(__dirname, 'fixtures', 'hosts', 'interrupted.js')

// A host of two workers that serve, in a group of its own, and its port.
async function serving (t, { interrupted, options = {}, words = [] } = {}) {
  const env = { OPTIONS: JSON.stringify(options) }
  if (interrupted !== undefined) env.INTERRUPTED = interrupted
  const host = new Program([HOST, ...words], { detached: true, env })
  t.after(() => host.destroy())
  await until('all to be ready', () => told(host, 'ready').length >= (options.workers ?? 2))
  return { host, port: await host.told('listening') }
}

// A worker may be dead before its host has said what it wants. It is respawned then, where that is due.
const UNHURRIED = { options: { respawn: 60 } }

const told = (host, name) => host.messages.filter((message) => name in message).map((message) => message[name])
const ctrlC = (host) => process.kill(-host.pid, 'SIGINT')
const signalsOfExits = (host) => host.messages.filter(({ exited }) => exited).map(({ signal }) => signal)

test.beside('^C where nobody has a handler: all end at once, in the middle of requests', async (t) => {
  const { host, port } = await serving(t)
  const request = await begin(port)
  ctrlC(host)
  assert.deepEqual(await host.ended(), [null, 'SIGINT'])
  await host.abandoned()
  await assert.rejects(request.finish())
})

test.beside('^C where workers alone have a handler: they answer what they have', onlyOurs, async (t) => {
  const { host, port } = await serving(t, { words: ['hears signals'] })
  const request = await begin(port)
  ctrlC(host)
  assert.deepEqual(await host.ended(), [null, 'SIGINT'])
  assert.ok(host.workers.includes((await request.finish()).pid))
  await host.abandoned()
})

test.beside('^C where the host has a handler that does nothing: workers without one die of it, and are respawned', async (t) => {
  const { host } = await serving(t, { interrupted: 'nothing' })
  const old = [...host.workers]
  ctrlC(host)
  await host.told('interrupted')
  await until('two deaths', () => signalsOfExits(host).length === 2)
  assert.deepEqual(signalsOfExits(host), ['SIGINT', 'SIGINT'])
  await until('two others', () => told(host, 'ready').length === 4)
  // Version 1 listens on another port then.
  assert.ok(!old.includes((await get(told(host, 'listening').pop())).pid))
})

test.beside('^C where both have handlers: workers hear it, once, and go on', async (t) => {
  const { host, port } = await serving(t, { interrupted: 'nothing', words: ['hears signals'] })
  ctrlC(host)
  await host.told('interrupted')
  await until('both to hear it', () => told(host, 'heard').length === 2)
  const { pid } = await get(port)
  assert.ok(told(host, 'ready').includes(pid))
  assert.deepEqual(signalsOfExits(host), [])
  assert.deepEqual(told(host, 'slot').sort(), ['0', '1'], 'each of them')
})

test.beside('^C where the host calls stop() and workers close their servers: what they have is answered, and nobody is respawned', async (t) => {
  const { host, port } = await serving(t, { interrupted: 'stop', words: ['closes at SIGINT'] })
  const request = await begin(port)
  ctrlC(host)
  await host.told('interrupted')
  assert.ok(host.workers.includes((await request.finish()).pid))
  // A worker whose server is closed has its channel left, which its host ends with its own end.
  host.kill('SIGKILL')
  await host.abandoned()
  assert.equal(host.workers.length, 2)
})

test.beside('^C where the host calls stop() and workers have no handler: they die of it, and nobody is respawned', async (t) => {
  const { host } = await serving(t, { interrupted: 'stop', ...UNHURRIED })
  ctrlC(host)
  assert.deepEqual(await host.ended(), [0, null])
  assert.equal(host.workers.length, 2)
  await host.abandoned()
})

test.beside('^C where the host calls shutdown() and workers hear it: what they have is answered, and all end', onlyOurs, async (t) => {
  const { host, port } = await serving(t, { interrupted: 'shutdown', words: ['hears signals'] })
  const request = await begin(port)
  ctrlC(host)
  await until('both to hear it', () => told(host, 'heard').length === 2)
  assert.ok(host.workers.includes((await request.finish()).pid))
  assert.deepEqual(await host.ended(), [0, null])
  assert.deepEqual(told(host, 'done'), ['shutdown'])
  assert.equal(host.workers.length, 2)
})

test.beside('^C where the host calls shutdown() and workers have no handler: they die of it, and the shutdown ends', onlyOurs, async (t) => {
  const { host } = await serving(t, { interrupted: 'shutdown', ...UNHURRIED })
  ctrlC(host)
  assert.deepEqual(await host.ended(), [0, null])
  assert.deepEqual(told(host, 'done'), ['shutdown'])
  assert.equal(host.workers.length, 2)
})

test.beside('process.kill(0) of the host reaches workers', async (t) => {
  const { host, port } = await serving(t, { words: ['hears signals'] })
  host.send({ do: 'hangup' })
  await until('both to hear it', () => told(host, 'heard').length === 2)
  assert.deepEqual(told(host, 'heard'), ['SIGHUP', 'SIGHUP'])
  assert.ok(host.workers.includes((await get(port)).pid))
})

test.beside('with ownGroup, ^C reaches the host alone', onlyOurs, async (t) => {
  const { host, port } = await serving(t, { interrupted: 'nothing', options: { ownGroup: true } })
  const request = await begin(port)
  ctrlC(host)
  await host.told('interrupted')
  assert.ok(host.workers.includes((await request.finish()).pid))
  assert.deepEqual(signalsOfExits(host), [])
})

const BLOCKED = path.join(__dirname, '..', '..', 'e2e', 'fixtures', 'with-signals-blocked.py')

test.beside('signals that were blocked or ignored by who started the host are none of its workers\'', onlyOurs, async (t) => {
  const host = new Program([HOST, 'stay'], { by: ['python3', BLOCKED], env: { OPTIONS: '{ "timeout": 0.1 }' } })
  t.after(() => host.destroy())
  await until('both to be ready', () => told(host, 'ready').length === 2)
  const old = [...host.workers]
  for (const pid of old) {
    const status = fs.readFileSync(`/proc/${pid}/status`, 'utf8')
    const [, blocked] = /^SigBlk:\s*(\w+)$/m.exec(status)
    const [, ignored] = /^SigIgn:\s*(\w+)$/m.exec(status)
    assert.equal(BigInt(`0x${blocked}`), 0n, status)
    // Node itself ignores two of them, and the C library keeps the first two or three of the real-time signals to itself.
    const { SIGPIPE, SIGXFSZ } = os.constants.signals
    const theirs = [SIGPIPE, SIGXFSZ].reduce((set, signal) => set | 1n << BigInt(signal - 1), 7n << 31n)
    assert.equal(BigInt(`0x${ignored}`) & ~theirs, 0n, status)
  }
  host.send({ do: 'reload' })
  await host.told('reloaded')
  // They stay until they are sent TERM.
  await until('the end of the old ones to be told', () => signalsOfExits(host).length === 2)
  assert.deepEqual(signalsOfExits(host), ['SIGTERM', 'SIGTERM'])
  assert.ok(!old.some(runs))
})

// The worker is sent TERM at its timeout and, as it ignores that, KILL.
test.beside('what the engine sends reaches neither the host nor what else is in its group', onlyOurs, async (t) => {
  const { host } = await serving(t, { words: ['stay', 'ignore'], options: { timeout: 0.1, killTimeout: 0.1, workers: 1 } })
  const [old, other] = host.workers
  host.send({ do: 'reload' })
  await host.told('reloaded')
  await until('the end of the old ones', () => !runs(old) && !(other && runs(other)))
  host.send({ do: 'caught' })
  assert.deepEqual(await host.told('caught'), [])
  assert.ok(runs(host.pid))
})
