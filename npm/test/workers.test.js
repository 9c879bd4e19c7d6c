// Worker objects: what Node's own cluster module gives, and the lists in which they stand.
'use strict'

const assert = require('node:assert/strict')
const { ChildProcess } = require('node:child_process')

const { fixture, test } = require('./lib/host')
const { called, heard, heardOften, turn, until } = require('./lib/wait')

const listening = { args: ['listen'] }
const pids = (workers) => workers.map((worker) => worker.process.pid)

test('workers are there with pids when run() and reload() return', async ({ cluster, start }) => {
  const made = start('puppet.js', { ...listening, workers: 2 })
  assert.equal(made.workers().length, 2)
  assert.ok(pids(made.workers()).every((pid) => pid > 0))
  assert.deepEqual(Object.values(cluster.workers), made.workers())
  assert.deepEqual(made.workers().map((worker) => worker.id), [1, 2])
  await heardOften(made, 'ready', 2)
  made.reload()
  assert.equal(new Set(pids(made.workers())).size, 4)
  assert.ok(pids(made.workers()).every((pid) => pid > 0))
})

test('a worker object is one of Node', async ({ cluster, serve }) => {
  const [worker] = (await serve('puppet.js', listening)).workers()
  assert.ok(worker instanceof cluster.Worker)
  assert.ok(worker.process instanceof ChildProcess)
  assert.equal(cluster.workers[worker.id], worker)
  assert.equal(worker._rc_wid, 0)
  assert.equal(worker.exitedAfterDisconnect, undefined)
  const { channel, connected, exitCode, killed, pid, signalCode, spawnargs, spawnfile, stderr, stdin, stdio, stdout } = worker.process
  assert.deepEqual({ connected, exitCode, killed, signalCode }, { connected: true, exitCode: null, killed: false, signalCode: null })
  assert.deepEqual([stdin, stdout, stderr], [null, null, null])
  assert.equal(stdio.length, 4)
  assert.ok(pid > 0 && channel)
  assert.equal(spawnfile, process.execPath)
  assert.ok(spawnargs.at(-2).endsWith('puppet.js') && spawnargs.at(-1) === 'listen')
})

test('ids are unique beside those of cluster.fork() and of a second cluster', async ({ cluster, start }) => {
  cluster.setupPrimary({ exec: fixture('puppet.js') })
  const own = [cluster.fork({ OWN: 'yes' })]
  const first = start('puppet.js', listening)
  own.push(cluster.fork())
  const second = start('puppet.js', listening)
  await until('both to serve', () => first.activeWorkers()[0] && second.activeWorkers()[0])
  await called((done) => first.reload(done))
  own.push(cluster.fork())
  await until('the new worker to serve', () => first.activeWorkers()[0])
  first.activeWorkers()[0].process.kill('SIGKILL')
  const [respawned] = await heard(first, 'online')
  const workers = [...own, ...first.workers(), ...second.workers()]
  const ids = workers.map((worker) => worker.id)
  assert.equal(new Set(ids).size, ids.length, `${ids}`)
  for (const id of ids) assert.equal(cluster.workers[id]?.id ?? id, id)
  for (const worker of [own[2], respawned]) {
    const told = heard(worker, 'message', (message) => 'id' in message)
    worker.send({ do: 'tell' })
    assert.equal((await told)[0].id, worker.id, 'what the worker knows')
  }
  for (const worker of own) {
    const gone = heard(worker, 'exit')
    worker.process.kill('SIGKILL')
    await gone
  }
})

test('workers() and activeWorkers() give the same live objects at every call, and need no `this`', async ({ make }) => {
  const made = make('puppet.js', { ...listening, workers: 2 })
  const { activeWorkers, workers } = made
  const [all, active] = [workers(), activeWorkers()]
  assert.deepEqual([all.length, active.length], [0, 2])
  made.run()
  await heardOften(made, 'ready', 2)
  await turn()
  const old = [...all]
  assert.deepEqual([active[0], active[1], active[2]], [...old, undefined])
  await called((done) => made.reload(done))
  await until('the old workers\' end', () => all.length === 2)
  assert.ok(old.every((worker) => !all.includes(worker)))
  assert.deepEqual(new Set(Array.from(active)), new Set(all))
  assert.equal(workers(), all)
  assert.equal(activeWorkers(), active)
})

test('all methods may be called unbound', async ({ make }) => {
  const { reload, run, stop, terminate, workers } = make('puppet.js', listening)
  run()
  const [worker] = workers()
  await heard(worker, 'listening')
  await called(reload)
  assert.notEqual(workers().at(-1), worker)
  stop()
  await called(terminate)
  assert.equal(workers().filter((worker) => !worker.isDead()).length, 0)
})

test('a slot whose worker has died holds nobody until the next one is ready', async ({ serve }) => {
  const made = await serve('puppet.js', { ...listening, workers: 2 })
  const active = made.activeWorkers()
  const worker = active[1]
  const gone = heard(worker.process, 'exit')
  worker.send({ do: 'exit', status: 3 })
  await gone
  assert.ok(active[1] === null || active[1] !== worker)
  assert.ok(active[0])
  await until('a worker in the slot', () => active[1])
  assert.equal(active[1]._rc_wid, 1)
  assert.equal(active.length, 2)
})

test('kill and destroy send SIGTERM, or the signal that they are given', async ({ serve }) => {
  const made = await serve('puppet.js', { args: ['listen', 'stay'] })
  for (const [method, given, expected] of [['kill', [], 'SIGTERM'], ['kill', ['SIGKILL'], 'SIGKILL'], ['destroy', ['SIGINT'], 'SIGINT']]) {
    await until('a worker', () => made.activeWorkers()[0])
    const worker = made.activeWorkers()[0]
    const gone = heard(worker, 'exit')
    assert.equal(worker[method](...given), undefined)
    assert.deepEqual(await gone, [null, expected])
    assert.equal(worker.process.killed, true)
    assert.equal(worker.isDead(), true)
    assert.equal(worker.process.kill(), false, 'there is nobody to kill')
  }
})

test('process.kill tells whether there is somebody', async ({ serve }) => {
  const [worker] = (await serve('puppet.js', listening)).workers()
  assert.equal(worker.process.kill(0), true)
  assert.equal(worker.process.kill('SIGWINCH'), true)
  assert.throws(() => worker.process.kill('SIGNOTHING'), { code: 'ERR_UNKNOWN_SIGNAL' })
})

test('isConnected and isDead follow the worker', async ({ serve }) => {
  const made = await serve('puppet.js', { args: ['listen', 'stay'] })
  const [worker] = made.workers()
  assert.deepEqual([worker.isConnected(), worker.isDead()], [true, false])
  const [closed, gone] = [heard(worker, 'disconnect'), heard(worker, 'exit')]
  worker.send({ do: 'leave' })
  await closed
  assert.deepEqual([worker.isConnected(), worker.isDead()], [false, false])
  assert.equal(worker.exitedAfterDisconnect, true)
  worker.kill()
  await gone
  assert.deepEqual([worker.isConnected(), worker.isDead()], [false, true])
})

test('disconnect by the host leaves in good order', async ({ cluster, serve }) => {
  const [worker] = (await serve('puppet.js', listening)).workers()
  const [closed, gone] = [heard(worker, 'disconnect'), heard(worker, 'exit')]
  assert.equal(worker.disconnect(), worker)
  assert.equal(worker.exitedAfterDisconnect, true)
  assert.equal(cluster.workers[worker.id], undefined)
  await closed
  assert.deepEqual(await gone, [0, null])
})

test('cluster.disconnect() disconnects all', async ({ cluster, serve }) => {
  const made = await serve('puppet.js', { ...listening, workers: 2 })
  made.stop()
  await called((done) => cluster.disconnect(done))
  assert.deepEqual(Object.keys(cluster.workers), [])
  await until('their end', () => made.workers().length === 0)
})

test.ours('a disconnect by the host and then a drain of ours are one', async ({ serve }) => {
  const made = await serve('puppet.js', { args: ['listen', 'answers a disconnect'] })
  const [worker] = made.workers()
  const gone = heard(worker, 'exit')
  worker.disconnect()
  made.reload()
  assert.deepEqual(await gone, [0, null])
})

test('terminate calls back when all are gone, whatever they ignore', async ({ cluster, serve }) => {
  const made = await serve('puppet.js', { args: ['listen', 'stay', 'ignore'], workers: 2 })
  const workers = [...made.workers()]
  const given = await called((done) => made.terminate(done))
  assert.deepEqual(given, [])
  assert.deepEqual(workers.map((worker) => [worker.isDead(), worker.process.signalCode]), [[true, 'SIGKILL'], [true, 'SIGKILL']])
  assert.deepEqual(Object.keys(cluster.workers), [])
  await until('an empty list', () => made.workers().length === 0)
})
