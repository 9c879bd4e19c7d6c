// What a host has set with cluster.setupPrimary(), and its environment.
'use strict'

const assert = require('node:assert/strict')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')

const { active, fixture, test } = require('./lib/host')
const { called, heard, turn } = require('./lib/wait')

const started = { readyWhen: 'started' }
const isRoot = process.getuid() === 0

// What a worker tells of itself.
async function tell (worker, env) {
  const told = heard(worker, 'message', (message) => 'slot' in message)
  worker.send({ do: 'tell', env })
  return (await told)[0]
}

test('fork and setup are told on the next tick', async ({ cluster, make }) => {
  const events = []
  cluster.on('setup', (settings) => events.push(settings))
  cluster.on('fork', (worker) => events.push(worker))
  const made = make('puppet.js', { ...started, args: ['one'], execArgv: ['--no-warnings'], workers: 2 })
  made.run()
  assert.deepEqual(events, [])
  await turn()
  const [settings] = events
  assert.equal(settings.exec, fixture('puppet.js'))
  assert.deepEqual([settings.args, settings.execArgv], [['one'], ['--no-warnings']])
  assert.equal(cluster.settings.exec, settings.exec)
  assert.deepEqual(events.filter((event) => event instanceof cluster.Worker), made.workers())
})

test('silent: what workers write is for the host to read', async ({ cluster, serve }) => {
  cluster.setupPrimary({ silent: true })
  const [worker] = (await serve('puppet.js', started)).workers()
  const { stderr, stdin, stdio, stdout } = worker.process
  assert.deepEqual(stdio.slice(0, 3), [stdin, stdout, stderr])
  assert.ok(stdin.writable)
  const [out, err] = [heard(stdout, 'data'), heard(stderr, 'data')]
  worker.send({ do: 'write', out: 'to stdout', err: 'to stderr' })
  assert.equal(`${await out}`, 'to stdout')
  assert.equal(`${await err}`, 'to stderr')
  const closed = heard(worker.process, 'close')
  worker.send({ do: 'exit', status: 4 })
  assert.deepEqual(await closed, [4, null])
  assert.ok(stdout.destroyed && stderr.destroyed && stdin.destroyed)
})

test('silent: a respawned worker and those of a reload as well', async ({ cluster, serve }) => {
  cluster.setupPrimary({ silent: true })
  const made = await serve('puppet.js', { args: ['listen'] })
  const says = async (worker) => {
    const out = heard(worker.process.stdout, 'data')
    worker.send({ do: 'write', out: 'here' })
    assert.equal(`${await out}`, 'here')
  }
  active(made)[0].send({ do: 'exit', status: 1 })
  const [respawned] = await heard(made, 'ready')
  await says(respawned)
  await called((done) => made.reload(done))
  await says(active(made)[0])
})

test('stdio: files, pipes and nothing', async ({ cluster, serve }) => {
  const file = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'recluster-stdio-')), 'out')
  const fd = fs.openSync(file, 'w')
  cluster.setupPrimary({ stdio: ['ignore', fd, 'pipe', 'ipc'] })
  const [worker] = (await serve('puppet.js', started)).workers()
  const { stderr, stdin, stdout } = worker.process
  assert.deepEqual([stdin, stdout], [null, null])
  const err = heard(stderr, 'data')
  worker.send({ do: 'write', out: 'into the file', err: 'to the pipe' })
  assert.equal(`${await err}`, 'to the pipe')
  assert.equal(fs.readFileSync(file, 'utf8'), 'into the file')
  fs.closeSync(fd)
  fs.rmSync(path.dirname(file), { recursive: true })
})

test('stdin is a pipe that a worker can read', async ({ cluster, serve }) => {
  cluster.setupPrimary({ stdio: ['pipe', 'inherit', 'inherit', 'ipc'] })
  const [worker] = (await serve('puppet.js', { ...started, args: ['reads'] })).workers()
  const said = heard(worker, 'message')
  worker.process.stdin.end('through the pipe')
  assert.deepEqual((await said)[0], { read: 'through the pipe' })
})

test('cwd', async ({ cluster, serve }) => {
  const cwd = fs.mkdtempSync(path.join(os.tmpdir(), 'recluster-cwd-'))
  cluster.setupPrimary({ cwd })
  const [worker] = (await serve('puppet.js', started)).workers()
  assert.equal((await tell(worker)).cwd, fs.realpathSync(cwd))
  fs.rmdirSync(cwd)
})

test('uid and gid', { skip: !isRoot && 'only root may change them' }, async ({ cluster, serve }) => {
  cluster.setupPrimary({ uid: 65534, gid: 65534 })
  const [worker] = (await serve('puppet.js', started)).workers()
  const { gid, uid } = await tell(worker)
  assert.deepEqual({ gid, uid }, { gid: 65534, uid: 65534 })
})

const OTHERS = {
  'of neither uid nor gid': [{}, '4 24'],
  'of uid': [{ uid: 65534 }, ''],
  'of gid': [{ gid: 65534 }, ''],
  'of both': [{ uid: 65534, gid: 65534 }, '']
}
for (const [name, [settings, groups]] of Object.entries(OTHERS)) {
  test(`a worker has no other groups of its master's after a change ${name}`, { skip: !isRoot && 'only root may change them' }, async ({ cluster, serve }) => {
    process.setgroups([4, 24])
    cluster.setupPrimary(settings)
    const [worker] = (await serve('puppet.js', started)).workers()
    const told = await tell(worker)
    assert.equal(told.groups, groups)
    assert.deepEqual({ gid: told.gid, uid: told.uid }, { gid: 0, uid: 0, ...settings })
  })
}

test('settings that change come in with a reload', async ({ cluster, serve }) => {
  const made = await serve('puppet.js', started)
  const cwd = fs.mkdtempSync(path.join(os.tmpdir(), 'recluster-cwd-'))
  cluster.setupPrimary({ cwd })
  await called((done) => made.reload(done))
  const [worker] = active(made)
  assert.equal((await tell(worker)).cwd, fs.realpathSync(cwd))
  fs.rmdirSync(cwd)
})

test('a worker has the environment of its host, as it is at the reload, and its slot', async ({ serve }) => {
  process.env.RECLUSTER_TEST_COLOUR = 'red'
  const made = await serve('puppet.js', { ...started, workers: 2 })
  for (const worker of made.workers()) {
    const { env, slot } = await tell(worker, ['RECLUSTER_TEST_COLOUR', 'PATH'])
    assert.deepEqual(env, { RECLUSTER_TEST_COLOUR: 'red', PATH: process.env.PATH })
    assert.equal(slot, `${worker._rc_wid}`)
  }
  process.env.RECLUSTER_TEST_COLOUR = 'blue'
  await called((done) => made.reload(done))
  for (const worker of active(made)) {
    assert.equal((await tell(worker, ['RECLUSTER_TEST_COLOUR'])).env.RECLUSTER_TEST_COLOUR, 'blue')
  }
})

test.ours('a server file that is not there is refused with one line', async ({ make }) => {
  assert.throws(() => make('/nowhere/server.js').run(), (error) => /\/nowhere\/server\.js/.test(error.message) && !/\n/.test(error.message))
})

test('a server file is found as node finds it: without its ending, or as a directory', async ({ release, serve }) => {
  await serve(fixture('puppet'), started)
  const { file } = release()
  fs.renameSync(file, path.join(path.dirname(file), 'index.js'))
  await serve(path.dirname(file), started)
})

// Each value as version 1 took it, and the number of seconds, or of workers, that it means.
const TAKEN = [
  ['workers', '2', 2], ['workers', true, 1], ['workers', false, os.cpus().length], ['workers', '', os.cpus().length], ['workers', 0, os.cpus().length]
]

for (const [name, value, meaning] of TAKEN) {
  test(`${name}: ${JSON.stringify(value)} is ${meaning}`, ({ recluster }) => {
    // In the reference it is a length as it was given.
    assert.equal(Number(recluster(fixture('puppet.js'), { [name]: value }).activeWorkers().length), meaning)
  })
}

for (const name of ['timeout', 'respawn', 'backoff']) {
  test(`${name} takes true, false, '' and '1'`, async ({ serve }) => {
    for (const value of [true, false, '', '1']) await serve('puppet.js', { ...started, [name]: value })
  })
}

test('a logger without `log`, where nothing is logged', async ({ serve }) => {
  const made = await serve('puppet.js', { ...started, log: {}, logger: {} })
  const ready = heard(made, 'ready')
  made.workers()[0].process.kill('SIGKILL')
  await ready
})

test.ours('an option that is none is logged once, with the one that is probably meant', async ({ log, serve }) => {
  const made = await serve('puppet.js', { ...started, timeOut: 5, worker: 2, colour: 'red' })
  await called((done) => made.reload(done))
  assert.deepEqual(log, [
    ['recluster: there is no option timeOut; timeout is probably meant'],
    ['recluster: there is no option worker; workers is probably meant'],
    ['recluster: there is no option colour']
  ])
})

test.ours('an option that is wrong is refused with one line that names it', async ({ recluster }) => {
  const wrong = [['workers', 'many'], ['workers', -1], ['timeout', 'soon'], ['readyWhen', 'never'], ['args', 'one'], ['surge', 0.5]]
  for (const [name, value] of wrong) {
    const refused = (error) =>
      (error instanceof TypeError || error instanceof RangeError) && error.message.includes(name) && !/\n/.test(error.message)
    assert.throws(() => recluster(fixture('puppet.js'), { [name]: value }).run(), refused, `${name}: ${value}`)
  }
})

test.ours('on: the engine runs hooks, and what is no hook is refused', async ({ make, serve }) => {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'hooks-'))
  const file = path.join(directory, 'told')
  const on = ['started', 'crashed', 'stopped'].map((event) => `${event}=exec:cat >> ${file}`)
  const log = []
  const logger = { log: (...words) => log.push(words.join(' ')) }
  const made = await serve('puppet.js', { ...started, on: [...on, 'started=exec:exit 3'], logger })
  const [worker] = made.workers()
  const exit = heard(worker, 'exit')
  worker.kill('SIGKILL')
  await exit
  await made.shutdown()
  const told = fs.readFileSync(file, 'utf8').trim().split('\n').map((line) => JSON.parse(line))
  // Each hook goes at its own pace.
  assert.deepEqual(told.map((event) => event.on).sort(), ['crashed', 'started', 'stopped'])
  assert.equal(told.find((event) => event.on === 'crashed').worker.id, worker.id)
  assert.ok(log.some((line) => line.includes('the hook for started failed (exec:exit …): it ended with status 3')), log)
  fs.rmSync(directory, { recursive: true })
  for (const wrong of [7, ['crashed'], 'crash=exec:true', 'crashed=https://x/']) {
    assert.throws(() => make('puppet.js', { ...started, on: wrong }).run(), /\bon\b/)
  }
})
