// The reference's README: its example, and how workers clean up. Whoever has followed it changes nothing.
'use strict'

const assert = require('node:assert/strict')
const os = require('node:os')

const { install } = require('./lib/app')
const { get } = require('./lib/client')
const { test } = require('./lib/host')
const { called, heard, until } = require('./lib/wait')

const kinds = (program, kind) => program.messages.filter((message) => kind in message)

test.beside('the example: as many workers as cores, and SIGUSR2 replaces all of them', async (t) => {
  const app = install('readme')
  const program = app.run('cluster.js')
  t.after(() => {
    program.destroy()
    app.remove()
  })
  const cores = os.cpus().length
  await until('all to listen', () => kinds(program, 'listening').length === cores)
  await program.wrote(`spawned cluster, kill -s SIGUSR2 ${program.pid} to reload`)
  const { listening: port } = kinds(program, 'listening')[0]
  const old = kinds(program, 'listening').map(({ pid }) => pid)
  assert.ok(old.includes((await get(port)).pid))

  program.kill('SIGUSR2')
  await program.wrote('Got SIGUSR2, reloading cluster...')
  await until('all new ones to listen', () => kinds(program, 'listening').length === 2 * cores)
  await until('all old ones\' end', () => kinds(program, 'exited').length === cores)
  const now = await get(port)
  assert.ok(!old.includes(now.pid) && now.slot < cores)
  for (const { code, signal } of kinds(program, 'exited')) assert.deepEqual([code, signal], [0, null])
  for (let slot = 0; slot < cores; slot++) await program.wrote(`${slot} cleaned up`)

  program.kill('SIGTERM')
  assert.deepEqual(await program.ended(), [null, 'SIGTERM'], 'no handler was installed')
  await program.abandoned()
})

test('a server cleans up in its close event', async ({ cluster, make }) => {
  cluster.setupPrimary({ silent: true })
  const made = make('readme/server.js')
  made.run()
  const [worker] = await heard(made, 'ready')
  const wrote = heard(worker.process.stdout, 'data')
  await called((done) => made.reload(done))
  assert.match(`${await wrote}`, /0 cleaned up/)
})

test('a worker that is no server cleans up when it is told to disconnect', async ({ cluster, make }) => {
  cluster.setupPrimary({ silent: true })
  const made = make('cleans-up.js', { readyWhen: 'started' })
  made.run()
  const [worker] = await heard(made, 'ready')
  const [wrote, gone] = [heard(worker.process.stdout, 'data'), heard(worker, 'exit')]
  await called((done) => made.reload(done))
  assert.match(`${await wrote}`, /cleaned up/)
  assert.deepEqual(await gone, [0, null], 'before the kill timeout')
})
