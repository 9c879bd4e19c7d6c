// Each option of the reference has the effect that its README says.
'use strict'

const assert = require('node:assert/strict')
const fs = require('node:fs')
const http = require('node:http')
const os = require('node:os')
const path = require('node:path')

const { active, fixture, test } = require('./lib/host')
const { called, heard, heardOften, until } = require('./lib/wait')

const listening = { args: ['listen'] }

test('without options there are as many workers as cores, and a worker that dies is respawned and logged', async ({ recluster }) => {
  const lines = []
  console.log = (...args) => lines.push(args)
  const made = recluster(fixture('readme/server.js'))
  made.run()
  await heardOften(made, 'ready', os.cpus().length)
  const slots = made.workers().map((worker) => worker._rc_wid)
  assert.deepEqual(slots, os.cpus().map((cpu, index) => index))
  const [worker] = made.workers()
  worker.process.kill('SIGKILL')
  await heard(made, 'ready')
  assert.equal(lines.length, 1)
  const [[line, time, ...none]] = lines
  assert.equal(line, `[${worker.process.pid}] worker (0:${worker.id}) must be replaced, respawning in`)
  assert.ok(time >= 0 && time <= 1000 && none.length === 0, 'within the default of a second')
})

test('workers', async ({ serve }) => {
  const made = await serve('puppet.js', { ...listening, workers: 3 })
  assert.equal(made.workers().length, 3)
  assert.equal(made.activeWorkers().length, 3)
})

test('timeout: an old worker that does not end gets SIGTERM', async ({ serve }) => {
  const made = await serve('puppet.js', { args: ['listen', 'stay'], timeout: 2 })
  const [old] = made.workers()
  const [closed, gone] = [heard(old, 'disconnect'), heard(old, 'exit')]
  const begin = process.hrtime.bigint()
  await called((done) => made.reload(done))
  await closed
  assert.deepEqual(await gone, [null, 'SIGTERM'])
  assert.ok(process.hrtime.bigint() - begin > 2_000_000_000n, 'not before')
})

test('a negative timeout: SIGTERM at once', async ({ serve }) => {
  const made = await serve('puppet.js', { args: ['listen', 'stay', 'answers a disconnect'], timeout: -1 })
  const [old] = made.workers()
  old.on('message', () => assert.fail('it is not told to disconnect'))
  const gone = heard(old, 'exit')
  await called((done) => made.reload(done))
  assert.deepEqual(await gone, [null, 'SIGTERM'])
})

test('a timeout of 0 is the default, a second', async ({ serve }) => {
  const made = await serve('puppet.js', { args: ['listen', 'stay'], timeout: 0 })
  const [old] = made.workers()
  const [closed, gone] = [heard(old, 'disconnect'), heard(old, 'exit')]
  const begin = process.hrtime.bigint()
  await called((done) => made.reload(done))
  await closed
  assert.deepEqual(await gone, [null, 'SIGTERM'])
  assert.ok(process.hrtime.bigint() - begin > 1_000_000_000n, 'not before')
})

// Has all workers of a cluster die at once, and gives the times between their respawns as they were announced, in steps of
// a second: the deaths and their announcements are never at quite the same moment.
async function spacing (serve, options) {
  const due = []
  const logger = { log: (line, time) => due.push(Date.now() + time) }
  const made = await serve('puppet.js', { ...listening, ...options, logger })
  const respawned = heardOften(made, 'online', made.workers().length)
  for (const worker of made.workers()) worker.send({ do: 'exit', status: 1 })
  await respawned
  due.sort((a, b) => a - b)
  return due.slice(1).map((time, index) => Math.round((time - due[index]) / 1000))
}

test('respawn: the least time between two respawns, whatever the slot', async ({ serve }) => {
  assert.deepEqual(await spacing(serve, { respawn: 1, workers: 3 }), [1, 1])
})

test('backoff: the time between respawns doubles up to it', async ({ serve }) => {
  assert.deepEqual(await spacing(serve, { respawn: 1, backoff: 4, workers: 4 }), [2, 4, 4])
})

test('readyWhen listening', async ({ start }) => {
  const made = start('puppet.js', { readyWhen: 'listening' })
  made.on('ready', (worker, address) => assert.ok(address.port > 0))
  const [worker] = await heard(made, 'online')
  assert.equal(active(made).length, 0)
  const ready = heard(made, 'ready')
  worker.send({ do: 'listen' })
  const [same, address] = await ready
  assert.equal(same, worker)
  assert.deepEqual(Object.keys(address).sort(), ['address', 'addressType', 'fd', 'port'])
})

test('readyWhen started', async ({ start }) => {
  const made = start('puppet.js', { readyWhen: 'started' })
  const [worker, arg] = await heard(made, 'ready')
  assert.deepEqual([worker, arg], [made.workers()[0], undefined])
})

test('readyWhen ready', async ({ start }) => {
  const made = start('puppet.js', { ...listening, readyWhen: 'ready' })
  const [worker] = await heard(made, 'listening')
  assert.equal(active(made).length, 0)
  const ready = heard(made, 'ready')
  worker.send({ do: 'ready' })
  assert.deepEqual(await ready, [worker, { cmd: 'ready' }])
})

test.ours('the slot is in the variable that instanceEnv names, and in no other', async ({ make, serve }) => {
  const tell = async (worker) => {
    const told = heard(worker, 'message', (message) => 'slot' in message)
    worker.send({ do: 'tell', env: ['WORKER_ID', 'NODE_APP_INSTANCE'] })
    return (await told)[0].env
  }
  const options = { args: ['listen'], workers: 1 }
  const [plain] = (await serve('puppet.js', options)).workers()
  assert.deepEqual(await tell(plain), { WORKER_ID: '0' })
  const [named] = (await serve('puppet.js', { ...options, instanceEnv: 'NODE_APP_INSTANCE' })).workers()
  assert.deepEqual(await tell(named), { WORKER_ID: '0', NODE_APP_INSTANCE: '0' })
  assert.throws(() => make('puppet.js', { ...options, instanceEnv: 'WORKER_ID' }).run(), /instanceEnv: WORKER_ID is reserved/)
})

test.ours('env and envFile are read at each reload, and a broken file refuses it', async ({ recluster }) => {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'recluster-'))
  const file = path.join(directory, '.env')
  const tell = async (made) => {
    const [worker] = active(made)
    const told = heard(worker, 'message', (message) => 'slot' in message)
    worker.send({ do: 'tell', env: ['FROM', 'ONLY_FILE', 'GONE'] })
    return (await told)[0].env
  }
  process.env.FROM = 'process'
  fs.writeFileSync(file, 'FROM=file\nONLY_FILE=1')
  const options = { args: ['listen'], workers: 1, envFile: file, env: { GONE: undefined }, logger: { log () {} } }
  const made = recluster(fixture('puppet.js'), options)
  made.run()
  await heard(made, 'ready')
  assert.deepEqual(await tell(made), { FROM: 'file', ONLY_FILE: '1' })
  options.env = { FROM: 'env' }
  fs.writeFileSync(file, 'ONLY_FILE=2')
  await made.reload()
  assert.deepEqual(await tell(made), { FROM: 'env', ONLY_FILE: '2' })
  assert.deepEqual((await made.status()).env, ['FROM', 'ONLY_FILE'])
  fs.writeFileSync(file, 'hunter2')
  await assert.rejects(made.reload(), (error) => {
    assert.equal(error.code, 'ERR_RECLUSTER_REFUSED')
    assert.equal(error.reason, `${file}:1: neither NAME=VALUE nor a # comment`)
    return true
  })
  options.env = { WORKER_ID: '7' }
  fs.writeFileSync(file, '')
  await assert.rejects(made.reload(), /WORKER_ID is reserved/)
  fs.rmSync(directory, { recursive: true })
})

test.ours('workers that are to be debugged have a port each, in a reload as well', async ({ cluster, serve }) => {
  const ports = (workers) => Promise.all(workers.map(async (worker) => {
    const told = heard(worker, 'message', (message) => 'execArgv' in message)
    worker.send({ do: 'tell' })
    return (await told)[0].execArgv.filter((arg) => arg.startsWith('--inspect-port=')).at(-1)
  }))
  cluster.setupPrimary({ inspectPort: () => 12000 + (process.pid % 20000) })
  // The old ones live on: a timer keeps them alive.
  const made = await serve('puppet.js', { args: ['listen', 'stay'], workers: 2, execArgv: ['--inspect'], timeout: 3600, exitGrace: 3600 })
  const old = [...made.workers()]
  const first = await ports(old)
  await made.reload()
  const second = await ports(made.workers().filter((worker) => !old.includes(worker)))
  assert.equal(new Set([...first, ...second]).size, 4, `${first} ${second}`)
})

test('args and execArgv', async ({ serve }) => {
  const made = await serve('puppet.js', { args: ['listen', 'a b', ''], execArgv: ['--no-warnings'] })
  const [worker] = made.workers()
  const told = heard(worker, 'message')
  worker.send({ do: 'tell' })
  const [{ argv, execArgv }] = await told
  assert.deepEqual(argv, ['listen', 'a b', ''])
  // The drain needs a preload of its own, which stands behind the user's.
  assert.equal(execArgv[0], '--no-warnings')
})

test('NODE_ENV is read when the package is required, for the timeout', async ({ recluster, logger }) => {
  recluster(fixture('puppet.js'), {})
  process.env.NODE_ENV = 'production'
  const made = recluster(fixture('puppet.js'), { workers: 1, args: ['listen', 'stay'], logger })
  made.run()
  await heard(made, 'ready')
  const [old] = made.workers()
  const gone = heard(old, 'exit')
  made.reload()
  await gone
})

test('log: without respawns none is logged', async ({ log, serve }) => {
  const made = await serve('puppet.js', { ...listening, log: {} })
  made.workers()[0].send({ do: 'exit', status: 1 })
  await heard(made, 'ready')
  assert.deepEqual(log, [])
})

test('logger: its log method is called as one', async ({ serve }) => {
  const logger = {
    lines: [],
    log (...args) {
      assert.equal(this, logger)
      this.lines.push(args)
    }
  }
  const made = await serve('puppet.js', { ...listening, logger })
  const [worker] = made.workers()
  worker.send({ do: 'exit', status: 1 })
  await heard(made, 'ready')
  assert.equal(logger.lines.length, 1)
  assert.equal(logger.lines[0].length, 2)
})

test.ours('compileCache: workers keep what they have compiled, or a line says why not', async ({ serve }) => {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'recluster-'))
  const lines = []
  const logger = { log: (line) => lines.push(line) }
  await serve('puppet.js', { ...listening, workers: 2, compileCache: path.join(directory, 'cache'), logger })
  const own = path.join(directory, 'cache', `compile-${process.getuid()}`)
  const entries = () => (fs.existsSync(own) ? fs.readdirSync(own).flatMap((version) => fs.readdirSync(path.join(own, version))) : [])
  const hasOne = typeof require('node:module').flushCompileCache === 'function'
  await until('an entry or a line', () => (hasOne ? entries() : lines).length > 0)
  assert.match(lines.join(), hasOne ? /^$/ : /^recluster: workers keep no compiled code: Node v\S+ has no module\.enableCompileCache/)
  fs.rmSync(directory, { recursive: true, maxRetries: 10 })
})

test.ours('compileCache says nothing where workers load nothing of ours', async ({ make }) => {
  const refused = (options) => () => make('puppet.js', { ...listening, ...options }).run()
  assert.throws(refused({ compileCache: true, drainHttp: false }), /compileCache must be left out where `drainHttp` is false/)
  assert.throws(refused({ compileCache: 7 }), /compileCache must be true, false or a directory, not 7/)
  assert.throws(refused({ compileCacheSize: 0 }), /compileCacheSize must be a whole number from 1 on, not 0/)
})

test.ours('workerMetrics: workers say how they do, and which requests they answer', async ({ make, serve }) => {
  const said = async (options, name) => {
    const made = await serve('puppet.js', { ...listening, workers: 1, ...options })
    return until(`what workers say with ${JSON.stringify(options)}`, async () => {
      const { workers } = await made.status()
      return workers.every((worker) => worker.node) && workers.map((worker) => typeof worker[name])
    })
  }
  assert.deepEqual(await said({}, 'http'), ['undefined'])
  assert.deepEqual(await said({ workerMetrics: 'http' }, 'http'), ['object'])
  const none = await serve('puppet.js', { ...listening, workers: 1, workerMetrics: 'off' })
  assert.equal((await none.status()).workers[0].node, undefined)
  const refused = (options) => () => make('puppet.js', { ...listening, ...options }).run()
  assert.throws(refused({ workerMetrics: 'all' }), /workerMetrics must be 'off' or 'basic' or 'http', not 'all'/)
  assert.throws(refused({ workerMetrics: 'http', drainHttp: false }), /workerMetrics must be left out where `drainHttp` is false/)
})

/** What is answered at a unix socket. */
function asked(socketPath, target, options = {}) {
  return new Promise((resolve, reject) => {
    const request = http.request({ socketPath, path: target, ...options }, (response) => {
      let body = ''
      response.setEncoding('utf8')
      response.on('data', (data) => { body += data })
      response.on('end', () => resolve({ status: response.statusCode, body }))
    })
    request.on('error', reject)
    request.end()
  })
}

test.ours('admin: the engine answers HTTP, and reloads for those who have the token', async ({ serve }) => {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'recluster-'))
  const [socket, token] = ['admin.sock', 'token'].map((name) => path.join(directory, name))
  fs.writeFileSync(token, 'correct-horse-battery-staple', { mode: 0o600 })
  const made = await serve('puppet.js', { ...listening, workers: 1, admin: `unix:${socket}`, adminTokenFile: token })
  assert.equal((await asked(socket, '/readyz')).status, 200)
  assert.deepEqual(JSON.parse((await asked(socket, '/status')).body).pid, process.pid)
  assert.match((await asked(socket, '/metrics')).body, /^recluster_slots_active 1$/m)
  const headers = { authorization: 'Bearer correct-horse-battery-staple' }
  assert.equal((await asked(socket, '/reload?wait', { method: 'POST' })).status, 401)
  const { status, body } = await asked(socket, '/reload?wait', { method: 'POST', headers })
  assert.deepEqual([status, JSON.parse(body).verdict], [200, 'done'])
  // As after SIGHUP of the command: the package's user hears it as any other reload.
  assert.equal((await made.status()).generation, 2)
  await made.terminate()
  await until('the listener goes with the cluster', () => !fs.existsSync(socket))
  fs.rmSync(directory, { recursive: true })
})

test.ours('admin: an address that cannot be had, and names without one, are refused before a worker is started', async ({ make }) => {
  const refused = (options) => () => make('puppet.js', { ...listening, ...options }).run()
  assert.throws(refused({ admin: 'nowhere' }), /admin: 'nowhere' is no address for the admin listener/)
  assert.throws(refused({ admin: 'unix:/no/such/directory/admin.sock' }), /the admin listener: cannot listen on/)
  assert.throws(refused({ admin: true }), /admin must be a string, not true/)
  assert.throws(refused({ adminHost: 'name' }), /adminHost must be left out without `admin`, not 'name'/)
  assert.throws(refused({ admin: 0, adminTokenFile: '/x' }), /adminTokenFile must be left out without `admin`/)
})
