// What is new of reload(): a promise, a verdict, and rules for reloads that meet.
'use strict'

const assert = require('node:assert/strict')

const { active, fixture, test } = require('./lib/host')
const { get } = require('./lib/client')
const { called, heard, heardOften, until } = require('./lib/wait')

const QUICK = { respawn: 0.01, attempts: 2 }

// A cluster, and the port that all versions of its code have in common.
async function served ({ release, serve }, options) {
  const code = release()
  const listening = {}
  const made = await serve(code.file, { ...QUICK, ...options })
  made.on('listening', (worker, { port }) => { listening.port = port })
  const [error] = await called((done) => made.reload(done))
  assert.ifError(error)
  return { code, made, port: listening.port }
}

test.ours('without a callback it gives a promise of nothing', async (host) => {
  const { made, port } = await served(host)
  const before = await get(port)
  const promise = made.reload()
  assert.ok(promise instanceof Promise)
  assert.equal(await promise, undefined)
  assert.notEqual((await get(port)).pid, before.pid)
})

test('with a callback it gives nothing, and calls back with nothing', async (host) => {
  const { made } = await served(host)
  const given = await called((done) => assert.equal(made.reload(done), undefined))
  assert.deepEqual(given, [])
})

test.ours('code that does not start is rolled back, and the callback is told why', async (host) => {
  const { code, made, port } = await served(host)
  const before = await get(port)
  code.put('throws', 2)
  const [error] = await called((done) => made.reload(done))
  is(error, { code: 'ERR_RECLUSTER_ROLLED_BACK', slot: 0 })
  assert.match(error.reason, /status 1/)
  assert.ok(error.stderr.includes('about to fail'), error.stderr.join('\n'))
  assert.match(error.stderr.join('\n'), /version 2 is broken/)
  assert.equal(typeof error.worker, 'number')
  assert.doesNotMatch(error.message, /\n/)
  assert.deepEqual(await get(port), before, 'the old worker serves')
  const [told] = host.log.filter((args) => args.join(' ').includes('rolled back'))
  assert.ok(told, `it is logged: ${JSON.stringify(host.log)}`)
  assert.doesNotMatch(told.join(' '), /\n/)
})

test.ours('the promise is rejected with the same error', async (host) => {
  const { code, made } = await served(host)
  code.put('throws', 2)
  await assert.rejects(made.reload(), { code: 'ERR_RECLUSTER_ROLLED_BACK', slot: 0 })
})

test.ours('behind a rollback the mended code comes in', async (host) => {
  const { code, made, port } = await served(host)
  code.put('throws', 2)
  await assert.rejects(made.reload())
  code.put('serves', 3)
  await made.reload()
  assert.equal((await get(port)).version, 3)
})

test.ours('a promise that nobody looks at is no unhandled rejection, and the cluster has no error', async (host) => {
  const { code, made } = await served(host)
  process.on('unhandledRejection', (reason) => assert.fail(`unhandled: ${reason}`))
  made.on('error', () => assert.fail('the cluster emits no error'))
  code.put('throws', 2)
  made.reload()
  await until('the rollback', () => host.log.some((args) => args.join(' ').includes('rolled back')))
})

test.ours('a worker that is not ready in time fails its reload at once', async ({ logger, recluster, release }) => {
  const code = release()
  const options = { ...QUICK, attempts: 5, logger, workers: 1 }
  const made = recluster(code.file, options)
  made.run()
  const [old] = await heard(made, 'ready')
  code.put('waits', 2)
  options.readyTimeout = 0.5
  const error = await made.reload().then(() => assert.fail('it never serves'), (error) => error)
  is(error, { code: 'ERR_RECLUSTER_ROLLED_BACK', slot: 0 })
  assert.equal(made.activeWorkers()[0], old)
  await until('the late worker\'s end', () => made.workers().length === 1)
})

test.ours('a late first start is only warned of', async ({ log, release, start }) => {
  const code = release()
  code.put('waits', 1)
  const made = start(code.file, { readyTimeout: 0.3, workers: 1 })
  const [worker] = made.workers()
  await until('a warning', () => log.some((args) => /not ready/.test(args.join(' '))))
  assert.equal(worker.isDead(), false)
  assert.deepEqual(made.workers(), [worker])
})

test('a first start that does not work keeps trying until it does', async ({ release, start }) => {
  const code = release()
  code.put('throws', 1)
  const made = start(code.file, { ...QUICK, respawn: 0.05 })
  for (let time = 0; time < 4; time++) await heard(made, 'exit')
  code.put('serves', 2)
  const [worker] = await heard(made, 'ready')
  await until('the slot to be filled', () => made.activeWorkers()[0] === worker)
})

test.ours('bootLimit: the next worker is started when one before it is ready, in a start and in a reload', async ({ make }) => {
  for (const bootLimit of [1, 2]) {
    const made = make('puppet.js', { workers: 3, bootLimit, args: ['listen'], timeout: 5 })
    const seen = new Set()
    const counts = []
    made.on('ready', () => {
      for (const { id } of made.workers()) seen.add(id)
      counts.push(seen.size)
    })
    made.run()
    await heardOften(made, 'ready', 3)
    await made.reload()
    assert.equal(counts.length, 6)
    for (const [ready, begun] of counts.entries()) assert.ok(begun <= ready + bootLimit, `${counts}`)
  }
})

test.ours('surge bounds how many extra workers there are', async (host) => {
  const { code, made, port } = await served(host, { workers: 3, surge: 1, timeout: 5 })
  await until('the first reload\'s old workers to be gone', () => made.workers().length === 3)
  let most = 0
  made.on('online', () => { most = Math.max(most, made.workers().filter((worker) => worker.isConnected() && !worker.exitedAfterDisconnect).length) })
  code.put('serves', 2)
  await made.reload()
  assert.ok(most <= 4, `${most} at once`)
  assert.equal((await get(port)).version, 2)
})

test.ours('a failure part-way leaves what was replaced', async (host) => {
  const { code, made, port } = await served(host, { workers: 2, surge: 1 })
  code.put('serves in part', 2)
  const error = await made.reload().then(() => assert.fail('slot 1 is broken'), (error) => error)
  is(error, { code: 'ERR_RECLUSTER_STOPPED_PART_WAY', slot: 1, replaced: 1, of: 2 })
  assert.equal(active(made).length, 2)
  const versions = new Set()
  await until('answers of both versions', async () => versions.add((await get(port)).version).size === 2)
})

test.ours('reloads that meet: the newer one counts, and all hear its verdict', async (host) => {
  const { code, made, port } = await served(host)
  const [old] = active(made)
  const gone = heard(old, 'exit')
  code.put('serves', 2)
  const first = made.reload()
  code.put('serves', 3)
  const [second, third] = [called((done) => made.reload(done)), made.reload()]
  assert.equal(await first, undefined)
  assert.deepEqual(await second, [])
  assert.equal(await third, undefined)
  assert.equal((await get(port)).version, 3)
  assert.deepEqual(await gone, [0, null], 'the old one left in good order')
})

test.ours('options are read anew at each reload', async ({ recluster }) => {
  const options = { args: ['listen', 'one'], workers: 1 }
  const made = recluster(fixture('puppet.js'), options)
  made.run()
  const [first] = await heard(made, 'ready')
  assert.deepEqual(await argumentsOf(first), ['listen', 'one'])
  options.args = ['listen', 'two']
  options.workers = 2
  await made.reload()
  assert.equal(made.activeWorkers().length, 2)
  for (const worker of active(made)) assert.deepEqual(await argumentsOf(worker), ['listen', 'two'])
})

test.ours('an option that is wrong refuses the reload, and nothing is touched', async ({ recluster }) => {
  const options = { args: ['listen'], workers: 1 }
  const made = recluster(fixture('puppet.js'), options)
  made.run()
  const [worker] = await heard(made, 'ready')
  options.surge = 'many'
  await assert.rejects(made.reload(), { message: /surge/ })
  const [error] = await called((done) => made.reload(done))
  assert.match(error.message, /surge/)
  assert.deepEqual(made.workers(), [worker])
})

test.ours('a reload of what does not run is refused', async ({ make }) => {
  const made = make('puppet.js')
  await assert.rejects(made.reload(), /run/)
  const [error] = await called((done) => made.reload(done))
  assert.ok(error instanceof Error)
  assert.deepEqual(made.workers(), [])
})

const argumentsOf = async (worker) => {
  const told = heard(worker, 'message', (message) => 'argv' in message)
  worker.send({ do: 'tell' })
  return (await told)[0].argv
}

const is = (error, expected) => {
  assert.ok(error instanceof Error, `an error: ${error}`)
  for (const [name, value] of Object.entries(expected)) assert.equal(error[name], value, `${name} of ${error.stack}`)
}
