// What a user's own code does wrong while the cluster calls it: the cluster serves on, and the fault is told once.
'use strict'

const assert = require('node:assert/strict')

const { get } = require('./lib/client')
const { directoryOf } = require('./lib/packages')
const { test } = require('./lib/host')
const { called, heard, heardOften, until } = require('./lib/wait')

// A fault is told on stderr.
function stderr () {
  const written = []
  const write = process.stderr.write
  process.stderr.write = (text, ...rest) => {
    written.push(String(text))
    return write.call(process.stderr, text, ...rest)
  }
  return () => written.join('')
}

const count = (text, part) => text.split(part).length - 1

// A cluster of one worker, whose code may be changed, and its port.
async function served ({ make, release }, options) {
  const code = release()
  const made = make(code.file, options)
  const listening = heard(made, 'listening')
  const ready = heard(made, 'ready')
  made.run()
  const [, { port }] = await listening
  await ready
  return { code, made, port }
}

const winston = () => {
  const { createLogger, transports } = require(directoryOf('winston'))
  return createLogger({ transports: [new transports.Console()] })
}

const LOGGERS = {
  'winston 3': winston,
  'one that throws': () => ({ log () { throw new Error('of a logger') } }),
  'one that writes to what it is given': () => ({ log (line) { line.level = 'info' } }),
  'one whose promise is rejected': () => ({ log: async () => { throw new Error('of a logger') } }),
  'one that throws what has no text': () => ({ log () { throw Object.create(null) } })
}

for (const [name, logger] of Object.entries(LOGGERS)) {
  test.ours(`a logger that cannot log our lines, ${name}: they are on stderr, and the cluster serves on`, { faulty: true }, async (host) => {
    const told = stderr()
    const { code, made, port } = await served(host, { logger: logger() })
    code.put('throws', 2)
    for (let reload = 0; reload < 2; reload++) await assert.rejects(made.reload(), { code: 'ERR_RECLUSTER_ROLLED_BACK' })
    await until('both lines', () => told().match(/^recluster: reload rolled back/gm)?.length === 2)
    assert.equal(count(told(), 'recluster: the logger failed'), 1)
    assert.equal((await get(port)).version, 1)
  })
}

test.ours('a listener that throws for each message is told once, and the cluster serves on', { faulty: true }, async ({ serve }) => {
  const told = stderr()
  const made = await serve('puppet.js', { args: ['listen'] })
  made.on('message', () => { throw new Error('of a listener') })
  const [worker] = made.workers()
  const heardTwice = heardOften(worker, 'message', 2)
  worker.send({ do: 'tell' })
  worker.send({ do: 'tell' })
  await heardTwice
  await called((done) => made.reload(done))
  assert.equal(count(told(), "a listener of 'message' failed, and the cluster goes on: Error: of a listener"), 1)
})

const LISTENERS = {
  'the cluster': (made) => made,
  "Node's module": (made, { cluster }) => cluster,
  'a worker': (made) => made.workers()[0]
}

for (const [whose, emitterOf] of Object.entries(LISTENERS)) {
  test.ours(`a listener of ${whose} that throws at an exit: the worker is replaced, and others hear of it`, { faulty: true }, async (host) => {
    const made = await host.serve('puppet.js', { args: ['listen'] })
    emitterOf(made, host).once('exit', () => { throw new Error('of a listener') })
    const [worker] = made.workers()
    const others = [made, host.cluster, worker, worker.process].filter((emitter) => emitter !== emitterOf(made, host))
    const exits = others.map((emitter) => heard(emitter, 'exit'))
    const ready = heard(made, 'ready')
    worker.process.kill('SIGKILL')
    await Promise.all(exits)
    const [replacement] = await ready
    assert.notEqual(replacement, worker)
    assert.deepEqual(made.workers(), [replacement])
  })
}

test.ours('the rejected promise of a listener of the cluster is told, and the cluster serves on', { faulty: true }, async ({ serve }) => {
  const told = stderr()
  const made = await serve('puppet.js', { args: ['listen'] })
  made.once('exit', async () => { throw new Error('of a listener') })
  const ready = heard(made, 'ready')
  made.workers()[0].process.kill('SIGKILL')
  await ready
  await until('it to be told', () => told().includes("a listener of 'exit' failed, and the cluster goes on: Error: of a listener"))
})

const CALLBACKS = {
  'reload()': async (made, callback) => made.reload(callback),
  'reload(), which is refused': async (made, callback, options) => {
    options.attempts = 'many'
    made.reload(callback)
  },
  'worker.send()': async (made, callback) => made.workers()[0].send({ do: 'nothing' }, callback)
}

for (const [method, call] of Object.entries(CALLBACKS)) {
  for (const [kind, fail] of [['throws', () => { throw new Error('of a callback') }], ['is rejected', () => Promise.reject(new Error('of a callback'))]]) {
    test.ours(`the callback of ${method} ${kind}: that is told, and the cluster serves on`, { faulty: true }, async ({ logger, recluster, release }) => {
      const told = stderr()
      const code = release()
      const options = { workers: 1, logger }
      const made = recluster(code.file, options)
      const ready = heard(made, 'ready')
      const listening = heard(made, 'listening')
      made.run()
      await ready
      const [, { port }] = await listening
      await call(made, fail, options)
      await until('it to be told', () => told().includes('a callback failed, and the cluster goes on: Error: of a callback'))
      assert.equal((await get(port)).version, 1)
    })
  }
}

test.ours('a program that handles its uncaught exceptions and rejections hears of each', { faulty: true }, async ({ serve }) => {
  const told = stderr()
  const made = await serve('puppet.js', { args: ['listen'] })
  const thrown = heard(process, 'uncaughtException')
  const rejected = heard(process, 'unhandledRejection')
  made.once('online', () => { throw new Error('thrown') })
  made.once('listening', async () => { throw new Error('rejected') })
  made.workers()[0].process.kill('SIGKILL')
  assert.equal((await thrown)[0].message, 'thrown')
  assert.equal((await rejected)[0].message, 'rejected')
  assert.doesNotMatch(told(), /the cluster goes on/)
})
