// What a worker is started with: what the host says at that moment, and not when its generation began.
'use strict'

const assert = require('node:assert/strict')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')

const { active, fixture, test } = require('./lib/host')
const { called, heard, until } = require('./lib/wait')

const started = { readyWhen: 'started', respawn: 0.01, timeout: 3600, workers: 1 }
const NAMES = ['RECLUSTER_TEST_COLOUR', 'RECLUSTER_TEST_SHAPE']

// What a worker tells of itself.
async function tell (worker) {
  const told = heard(worker, 'message', (message) => 'slot' in message)
  worker.send({ do: 'tell', env: NAMES })
  return (await told)[0]
}

// The worker that takes the place of the only one.
async function respawned (made) {
  const ready = heard(made, 'ready')
  active(made)[0].process.kill('SIGKILL')
  return (await ready)[0]
}

// A cluster of one worker, by the user's own options.
async function serving ({ logger, recluster }, options) {
  const made = recluster(fixture('puppet.js'), options)
  options.logger ??= logger
  made.run()
  await until('the worker to be active', () => active(made).length === 1)
  return made
}

test('the environment of the host, as it is now', async (host) => {
  process.env.RECLUSTER_TEST_COLOUR = 'red'
  const made = await serving(host, { ...started })
  process.env.RECLUSTER_TEST_SHAPE = 'round'
  process.env.RECLUSTER_TEST_COLOUR = 'blue'
  assert.deepEqual((await tell(await respawned(made))).env, { RECLUSTER_TEST_COLOUR: 'blue', RECLUSTER_TEST_SHAPE: 'round' })
  delete process.env.RECLUSTER_TEST_COLOUR
  assert.deepEqual((await tell(await respawned(made))).env, { RECLUSTER_TEST_SHAPE: 'round' })
})

// In the reference, a worker that is respawned for the first of the two may be there before the second.
for (const [event, run] of [['disconnect', test], ['exit', test.ours]]) {
  run(`the environment, as a listener of '${event}' leaves it`, async (host) => {
    const made = await serving(host, { ...started })
    made.on(event, (worker) => { process.env.RECLUSTER_TEST_COLOUR = `behind ${worker.id}` })
    const old = active(made)[0]
    const worker = await respawned(made)
    assert.equal((await tell(worker)).env.RECLUSTER_TEST_COLOUR, `behind ${old.id}`)
  })
}

test('arguments that are added to the options', async (host) => {
  const options = { ...started, args: ['one'], execArgv: ['--no-warnings'] }
  const made = await serving(host, options)
  options.args.push('two')
  options.execArgv.push('--stack-size=900')
  const { argv, execArgv } = await tell(await respawned(made))
  assert.deepEqual({ argv, execArgv }, { argv: ['one', 'two'], execArgv: ['--no-warnings', '--stack-size=900'] })
})

test('arguments and a directory that Node\'s module is told', async (host) => {
  const { cluster } = host
  const made = await serving(host, { ...started, args: ['one'], execArgv: [] })
  const cwd = fs.mkdtempSync(path.join(os.tmpdir(), 'recluster-cwd-'))
  cluster.setupPrimary({ cwd, args: ['two'] })
  cluster.settings.execArgv.push('--no-warnings')
  const told = await tell(await respawned(made))
  assert.deepEqual([told.argv, told.cwd, told.execArgv], [['two'], fs.realpathSync(cwd), ['--no-warnings']])
  cluster.settings.cwd = os.tmpdir()
  await called((done) => made.reload(done))
  assert.deepEqual((await tell(active(made)[0])).cwd, fs.realpathSync(os.tmpdir()))
  fs.rmdirSync(cwd)
})

test('where the host changes its directory, workers are started there', async (host) => {
  const made = await serving(host, { ...started })
  process.chdir(os.tmpdir())
  assert.equal((await tell(await respawned(made))).cwd, fs.realpathSync(os.tmpdir()))
})

test.ours('what is wrong is logged once, and workers are started as before', async (host) => {
  const options = { ...started, args: ['one'] }
  const made = await serving(host, options)
  options.args.push('a NUL: \0')
  for (let time = 0; time < 2; time++) assert.deepEqual((await tell(await respawned(made))).argv, ['one'])
  const lines = host.log.map(([line]) => line).filter((line) => /as before/.test(line))
  assert.equal(lines.length, 1)
  assert.match(lines[0], /^recluster: workers are started as before: the option args must be strings without a NUL/)
})

test.ours('the option env stays as it was when the generation began', async (host) => {
  const options = { ...started, env: { RECLUSTER_TEST_COLOUR: 'red' } }
  const made = await serving(host, options)
  process.env.RECLUSTER_TEST_COLOUR = 'blue'
  options.env = { RECLUSTER_TEST_COLOUR: 'green' }
  assert.equal((await tell(await respawned(made))).env.RECLUSTER_TEST_COLOUR, 'red')
  await called((done) => made.reload(done))
  assert.equal((await tell(active(made)[0])).env.RECLUSTER_TEST_COLOUR, 'green')
})

test.ours('what was said for a reload that was rolled back is not used', async (host) => {
  const options = { ...started, args: ['one'], attempts: 1 }
  const made = await serving(host, options)
  process.env.RECLUSTER_TEST_COLOUR = 'red'
  assert.equal((await tell(await respawned(made))).env.RECLUSTER_TEST_COLOUR, 'red')
  process.env.RECLUSTER_TEST_COLOUR = 'blue'
  options.args.push('throw')
  options.readyWhen = 'ready'
  await assert.rejects(made.reload(), { code: 'ERR_RECLUSTER_ROLLED_BACK' })
  for (let time = 0; time < 2; time++) {
    const { argv, env } = await tell(await respawned(made))
    assert.deepEqual([argv, env.RECLUSTER_TEST_COLOUR], [['one'], 'red'])
  }
  options.args.pop()
  options.readyWhen = 'started'
  await called((done) => made.reload(done))
  assert.equal((await tell(await respawned(made))).env.RECLUSTER_TEST_COLOUR, 'blue')
})
