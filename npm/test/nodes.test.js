// What Node's own cluster does for whoever uses it beside the package, in the host and in workers.
'use strict'

const assert = require('node:assert/strict')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')

const { get } = require('./lib/client')
const { active, fixture, onlyOurs, test } = require('./lib/host')
const { called, heard, until } = require('./lib/wait')

const started = { readyWhen: 'started', args: [] }
const VIEW = fixture('views.js')

// What a worker sees of the module.
const view = async (worker) => (await heard(worker, 'message', (message) => 'view' in message))[0].view

test('a worker sees of the module what one of cluster.fork() sees', async ({ cluster, start }) => {
  const ours = await view(start(VIEW, started).workers()[0])
  const worker = cluster.fork()
  const nodes = await view(worker)
  assert.deepEqual({ ...ours, id: null }, { ...nodes, id: null })
  assert.deepEqual([ours.isPrimary, ours.isMaster, ours.isWorker], [false, false, true])
  const gone = heard(worker, 'exit')
  worker.kill('SIGKILL')
  await gone
})

test('the host sees of the module what it saw before', async ({ cluster, serve }) => {
  const seen = () => ({
    isPrimary: cluster.isPrimary,
    isMaster: cluster.isMaster,
    isWorker: cluster.isWorker,
    worker: cluster.worker,
    schedulingPolicy: cluster.schedulingPolicy,
    names: Object.keys(cluster).sort()
  })
  const before = seen()
  await serve('puppet.js', { ...started, args: ['one'], execArgv: ['--no-warnings'] })
  assert.deepEqual(seen(), before)
  const { args, exec, execArgv, silent } = cluster.settings
  assert.deepEqual({ args, exec, execArgv, silent }, { args: ['one'], exec: fixture('puppet.js'), execArgv: ['--no-warnings'], silent: false })
})

test('setupPrimary() adds to the settings', async ({ cluster, serve }) => {
  cluster.setupPrimary({ silent: true })
  cluster.setupPrimary({ cwd: os.tmpdir() })
  const [worker] = (await serve('puppet.js', started)).workers()
  assert.equal(cluster.settings.cwd, os.tmpdir())
  assert.ok(worker.process.stdout)
})

test('process.argv has the server file by the name that it was given, symlinks and all', async (host) => {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'recluster-link-'))
  fs.symlinkSync(path.dirname(VIEW), path.join(directory, 'current'))
  const server = path.join(directory, 'current', path.basename(VIEW))
  const seen = await view(host.start(server, started).workers()[0])
  assert.deepEqual([seen.argv, seen.main], [server, fs.realpathSync(VIEW)])
  fs.rmSync(directory, { recursive: true })
})

test('a relative path begins in the directory of workers', async ({ cluster, logger, recluster }) => {
  cluster.setupPrimary({ cwd: path.dirname(VIEW) })
  const made = recluster(path.basename(VIEW), { ...started, logger, workers: 1 })
  made.run()
  assert.equal((await view(made.workers()[0])).argv, VIEW)
})

// How a worker goes, in words of the puppet or as the host does it, and the exit that everybody is told.
const ENDS = {
  'by process.exit(42)': { end: (worker) => worker.send({ do: 'exit', status: 42 }), exit: [42, null], asked: false },
  'by an exception': { end: (worker) => worker.send({ do: 'throw' }), exit: [1, null], asked: false },
  'by SIGKILL of the host': { end: (worker) => worker.kill('SIGKILL'), exit: [null, 'SIGKILL'], asked: false },
  'by process.kill() of the host': { end: (worker) => process.kill(worker.process.pid, 'SIGTERM'), exit: [null, 'SIGTERM'], asked: false },
  'by disconnect() of the host': { end: (worker) => worker.disconnect(), exit: [0, null], asked: true },
  'by its own cluster.worker.disconnect()': { end: (worker) => worker.send({ do: 'leave' }), exit: [0, null], asked: true },
  'by its own cluster.worker.kill()': { end: (worker) => worker.send({ do: 'kill' }), exit: [0, null], asked: true }
}

for (const [how, { asked, end, exit }] of Object.entries(ENDS)) {
  for (const stopped of [false, true]) {
    test(`a worker that ends ${how}${stopped ? ', behind stop()' : ''}`, async ({ cluster, serve }) => {
      const made = await serve('puppet.js', { args: ['listen'] })
      const [worker] = made.workers()
      if (stopped) made.stop()
      const told = []
      const note = (name) => (...args) => told.push([name, args])
      worker.on('disconnect', note('disconnect')).on('exit', note('exit'))
      cluster.on('exit', (ended, ...args) => ended === worker && told.push(['exit of the module', args]))
      const closed = heard(worker.process, 'close')
      end(worker)
      assert.deepEqual(await closed, exit)
      // Each once, in an order that nobody promises.
      assert.equal(told.length, 3)
      assert.deepEqual(Object.fromEntries(told), { disconnect: [], exit, 'exit of the module': exit })
      assert.deepEqual([worker.exitedAfterDisconnect, worker.isDead(), worker.isConnected()], [asked, true, false])
      assert.ok(!(worker.id in cluster.workers))
    })
  }
}

test('a worker that has closed its channel is in cluster.workers until it has ended', async ({ cluster, serve }) => {
  const made = await serve('puppet.js', { args: ['listen', 'stay'] })
  const [worker] = made.workers()
  const left = heard(worker, 'disconnect')
  worker.send({ do: 'leave' })
  await left
  assert.ok(!worker.isDead() && cluster.workers[worker.id] === worker)
  worker.on('exit', () => assert.ok(!(worker.id in cluster.workers)))
  const gone = heard(worker, 'exit')
  process.kill(worker.process.pid, 'SIGKILL')
  await gone
})

test('cluster.disconnect() behind stop() calls back when the last worker is gone', async ({ cluster, serve }) => {
  const made = await serve('puppet.js', { args: ['listen'], workers: 2 })
  made.stop()
  const pids = made.workers().map((worker) => worker.process.pid)
  await called((done) => cluster.disconnect(done))
  assert.equal(pids.length, 2)
  assert.deepEqual(Object.keys(cluster.workers), [])
})

test('workers that listen on any port have the same one, and one that wants it exclusively has its own', async ({ make }) => {
  const made = make('views.js', { readyWhen: 'ready', workers: 2, args: ['any', 'exclusive'] })
  const ports = { any: [], exclusive: [] }
  made.on('message', (worker, { kind, port }) => ports[kind]?.push(port))
  made.run()
  await until('all ports', () => ports.any.length === 2 && ports.exclusive.length === 2)
  assert.equal(new Set(ports.any).size, 1)
  assert.equal(new Set([...ports.any, ...ports.exclusive]).size, 3)
  for (const port of [...ports.any, ...ports.exclusive]) assert.equal((await get(port)).served, true)
})

test('an address that somebody else has is an error of the server in the worker', async ({ start }) => {
  const taken = require('node:net').createServer().listen(0, '127.0.0.1')
  await heard(taken, 'listening')
  const { port } = taken.address()
  const [worker] = start('views.js', { ...started, args: ['taken', `${port}`] }).workers()
  const [{ error }] = await heard(worker, 'message', (message) => 'error' in message)
  assert.deepEqual(error, { code: 'EADDRINUSE', address: '127.0.0.1', port })
  taken.close()
})

test.beside('a unix socket by a relative path that is longer in full than the kernel takes', onlyOurs, async (t) => {
  const { Program } = require('./lib/program')
  const { underTest } = require('./lib/packages')
  const deep = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'recluster-deep-')), 'd'.repeat(60), 'e'.repeat(60))
  fs.mkdirSync(deep, { recursive: true })
  t.after(() => fs.rmSync(path.dirname(path.dirname(deep)), { recursive: true }))
  const script = `
    const made = require(${JSON.stringify(underTest)})(${JSON.stringify(VIEW)}, { workers: 2, args: ['path', 'short.sock'] })
    made.run()
    made.once('ready', () => {
      require('http').get({ socketPath: 'short.sock', headers: { Connection: 'close' } }, (response) => {
        response.resume().on('end', () => made.terminate(() => process.exit(response.statusCode === 200 ? 0 : 1)))
      })
    })`
  const host = new Program(['-e', script], { cwd: deep })
  t.after(() => host.destroy())
  assert.deepEqual(await host.ended(), [0, null], host.text)
})

test('the module tells of each worker in order', async ({ cluster, serve }) => {
  const order = []
  for (const event of ['fork', 'online', 'listening', 'disconnect', 'exit']) cluster.on(event, ({ id }) => order.push(`${event} ${id}`))
  const made = await serve('puppet.js', { args: ['listen'] })
  const ready = heard(made, 'ready')
  active(made)[0].kill('SIGKILL')
  await ready
  const of = (id) => order.filter((entry) => entry.endsWith(` ${id}`)).map((entry) => entry.split(' ')[0])
  assert.deepEqual(of(1).slice(0, 3), ['fork', 'online', 'listening'])
  assert.deepEqual(of(1).slice(3).sort(), ['disconnect', 'exit'])
  assert.deepEqual(of(2), ['fork', 'online', 'listening'])
})
