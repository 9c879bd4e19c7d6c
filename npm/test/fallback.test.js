// The fallback: the same API on Node's own cluster. Its hosts run with RECLUSTER_ENGINE=fallback.
'use strict'

const assert = require('node:assert/strict')

const { get } = require('./lib/client')
const { active, fixture, fallback, test } = require('./lib/host')
const { called, heard, heardOften, until } = require('./lib/wait')

// Version 1 keeps a timer of `timeout` for some workers that have ended, which keeps the host alive.
const listening = { args: ['listen'], timeout: 10 }

async function served ({ release, serve }, options) {
  const code = release()
  const address = {}
  const made = await serve(code.file, { timeout: 10, ...options })
  made.on('listening', (worker, { port }) => { address.port = port })
  await called((done) => made.reload(done))
  return { code, made, port: address.port }
}

test.ours('it serves, and says once that it is the fallback', fallback, async (host) => {
  const { made, port } = await served(host, { workers: 2 })
  assert.equal((await get(port)).version, 1)
  assert.equal(active(made).length, 2)
  const lines = host.log.map(([line]) => line).filter((line) => /this is the fallback/.test(line))
  assert.equal(lines.length, 1)
  assert.doesNotMatch(lines[0], /\n/)
})

test.ours('reload() brings in the new code, as a promise and with a callback', fallback, async (host) => {
  const { code, made, port } = await served(host)
  code.put('serves', 2)
  assert.equal(await made.reload(), undefined)
  await until('the new code alone', async () => (await get(port)).version === 2)
  code.put('serves', 3)
  assert.deepEqual(await called((done) => made.reload(done)), [])
})

test.ours('a worker that dies is respawned', fallback, async ({ serve }) => {
  const made = await serve('puppet.js', listening)
  const ready = heard(made, 'ready')
  const [old] = made.workers()
  old.process.kill('SIGKILL')
  const [worker] = await ready
  assert.notEqual(worker.process.pid, old.process.pid)
})

test.ours('what is new is not there, which is said once', fallback, async ({ log, serve }) => {
  const made = await serve('puppet.js', { ...listening, surge: 1, balance: 'kernel' })
  for (let time = 0; time < 2; time++) {
    await assert.rejects(made.scale(2), { code: 'ERR_RECLUSTER_FALLBACK' })
    await assert.rejects(made.status(), { code: 'ERR_RECLUSTER_FALLBACK' })
    await made.reload()
  }
  const lines = log.map(([line]) => line).filter((line) => /has no/.test(line))
  assert.deepEqual(lines.map((line) => line.replace(/.*has no /, '')), ['surge, balance', 'scale()', 'status()'])
})

test.ours('shutdown() lets a worker answer what it has', fallback, async (host) => {
  const { begin } = require('./lib/client')
  const { made, port } = await served(host)
  const request = await begin(port)
  const gone = made.shutdown()
  assert.equal((await request.finish()).version, 1)
  await gone
  assert.equal(made.workers().length, 0)
})

test.ours('terminate() ends everybody and calls back, and a reload that it interrupts fails', fallback, async ({ serve }) => {
  const options = { ...listening, workers: 2 }
  const made = await serve('puppet.js', options)
  options.args = ['stay']
  const reload = made.reload()
  await called((done) => made.terminate(done))
  await assert.rejects(reload, { code: 'ERR_RECLUSTER_ABANDONED' })
  assert.equal(made.workers().length, 0)
  await assert.rejects(made.reload(), { code: 'ERR_RECLUSTER_NOT_RUNNING' })
})

test.ours('an option that is wrong is refused as ever, and the options of the user stay as they are', fallback, async ({ recluster }) => {
  assert.throws(() => recluster(fixture('puppet.js'), { workers: 'many' }), /workers must be/)
  const options = { workers: 1 }
  recluster(fixture('puppet.js'), options)
  assert.deepEqual(options, { workers: 1 })
})

test.ours('a logger that fails does not end it', { ...fallback, faulty: true }, async ({ serve }) => {
  const made = await serve('puppet.js', { ...listening, logger: { log () { throw new Error('of a logger') } } })
  const ready = heardOften(made, 'ready', 1)
  made.workers()[0].process.kill('SIGKILL')
  await ready
})
