// The cluster object: what is new of it, several of them, and where it does nothing.
'use strict'

const assert = require('node:assert/strict')

const { begin, get } = require('./lib/client')
const { active, test } = require('./lib/host')
const { called, heard, heardOften, turn, until } = require('./lib/wait')

const listening = { args: ['listen'] }
const started = { readyWhen: 'started' }

test.ours('scale: more workers, and fewer', async ({ serve }) => {
  const made = await serve('puppet.js', listening)
  const [first] = made.workers()
  const slots = made.activeWorkers()
  assert.equal(await made.scale(3), 3)
  assert.equal(slots.length, 3)
  await until('all to be active', () => active(made).length === 3)
  assert.deepEqual(active(made).map((worker) => worker._rc_wid), [0, 1, 2])
  const gone = heardOften(made, 'exit', 2)
  assert.equal(await made.scale(1), 1)
  assert.equal(slots.length, 1)
  const left = (await gone).map(([worker]) => worker)
  assert.ok(left.every((worker) => worker.exitedAfterDisconnect && worker.process.exitCode === 0))
  assert.deepEqual(made.workers(), [first])
  assert.deepEqual(Object.keys(slots), ['0', 'length'])
  assert.equal(made.activeWorkers(), slots)
})

test.ours('scale refuses what is no number of workers', async ({ make, serve }) => {
  const made = await serve('puppet.js', listening)
  for (const slots of [-1, 'many', NaN, null]) {
    await assert.rejects(made.scale(slots), { name: 'RangeError', message: /scale/ })
  }
  assert.equal(made.workers().length, 1)
  for (const slots of [1025, 5000, 2 ** 32 + 1]) {
    await assert.rejects(made.scale(slots), { code: 'ERR_OUT_OF_RANGE', message: /at most 1024/ })
  }
  await assert.rejects(make('puppet.js').scale(2), { code: 'ERR_RECLUSTER_NOT_RUNNING' })
})

test.ours('scale outlives a reload that says nothing else', async ({ serve }) => {
  const made = await serve('puppet.js', listening)
  await made.scale(2)
  await until('both to be active', () => active(made).length === 2)
  const old = [...made.workers()]
  await made.reload()
  await until('the old ones to be gone', () => made.workers().every((worker) => !old.includes(worker)))
  assert.equal(made.activeWorkers().length, active(made).length)
})

test.ours('status tells of slots and workers', async ({ make, serve }) => {
  const made = await serve('puppet.js', { ...listening, workers: 2 })
  const { generation, phase, pid, slots, workers } = await made.status()
  assert.deepEqual({ generation, phase, pid }, { generation: 1, phase: 'running', pid: process.pid })
  assert.deepEqual(slots.map(({ active, slot }) => [slot, active]), made.workers().map((worker) => [worker._rc_wid, worker.id]))
  assert.deepEqual(workers.map(({ pid }) => pid).sort(), made.workers().map((worker) => worker.process.pid).sort())
  await assert.rejects(make('puppet.js').status(), { code: 'ERR_RECLUSTER_NOT_RUNNING' })
})

test.ours('shutdown: every worker answers what it has, and then nobody is left', async ({ make }) => {
  const made = make('puppet.js', { ...listening, workers: 2, balance: 'round-robin' })
  const ready = heardOften(made, 'listening', 2)
  made.run()
  const [[, { port }]] = await ready
  const requests = [await begin(port), await begin(port)]
  const left = made.shutdown()
  assert.ok(left instanceof Promise)
  await turn()
  const answers = await Promise.all(requests.map((request) => request.finish()))
  assert.equal(new Set(answers.map(({ pid }) => pid)).size, 2)
  assert.equal(await left, undefined)
  assert.deepEqual(made.workers(), [])
  await assert.rejects(get(port), { code: 'ECONNREFUSED' })
})

test.ours('shutdown with a callback, and of what does not run', async ({ make, serve }) => {
  const made = await serve('puppet.js', listening)
  assert.deepEqual(await called((done) => assert.equal(made.shutdown(done), undefined)), [])
  assert.deepEqual(await called((done) => make('puppet.js').shutdown(done)), [])
  await make('puppet.js').shutdown()
})

test('behind a terminate it can be run again', async ({ serve }) => {
  const made = await serve('puppet.js', { ...listening, workers: 2 })
  await called((done) => made.terminate(done))
  await until('an empty list', () => made.workers().length === 0)
  made.run()
  assert.equal(made.workers().length, 2)
  await heardOften(made, 'ready', 2)
  await called((done) => made.reload(done))
})

test.ours('stop leaves the workers alone, and run takes them over again', async ({ serve }) => {
  const made = await serve('puppet.js', { ...listening, workers: 2 })
  const [one, two] = made.workers()
  made.stop()
  const gone = heard(one, 'exit')
  one.process.kill('SIGKILL')
  await gone
  await turn()
  assert.deepEqual(made.workers(), [two])
  made.run()
  const [filled] = await heard(made, 'ready')
  assert.equal(filled._rc_wid, one._rc_wid)
  assert.deepEqual(new Set(active(made)), new Set([two, filled]))
})

test('run starts anew where nobody is left behind a stop, also at the moment at which the last one leaves', async ({ serve }) => {
  const made = await serve('puppet.js', listening)
  for (let time = 0; time < 5; time++) {
    const [last] = made.workers()
    made.stop()
    last.process.once('exit', () => made.run())
    last.process.kill('SIGKILL')
    const [worker] = await heard(made, 'ready')
    assert.notEqual(worker, last)
    assert.deepEqual(made.workers(), [worker])
  }
})

test.ours('run does nothing while it runs', async ({ serve }) => {
  const made = await serve('puppet.js', listening)
  const workers = [...made.workers()]
  made.run()
  assert.deepEqual(made.workers(), workers)
})

test.ours('a request that is under way outlives the reload', async ({ make }) => {
  const made = make('puppet.js', listening)
  const ready = heard(made, 'listening')
  made.run()
  const [old, { port }] = await ready
  const request = await begin(port)
  await called((done) => made.reload(done))
  assert.notEqual((await get(port)).pid, old.process.pid)
  const gone = heard(old, 'exit')
  assert.equal((await request.finish()).pid, old.process.pid)
  assert.deepEqual(await gone, [0, null])
})

test('in a worker it does nothing', async ({ serve }) => {
  const made = await serve('acts-in-worker.js', started)
  const [worker] = made.workers()
  const said = heard(worker, 'message')
  worker.send('go')
  assert.deepEqual((await said)[0], { workers: 0, children: 0 })
})

test.ours('in a worker terminate does nothing either', async ({ serve }) => {
  const [worker] = (await serve('acts-in-worker.js', started)).workers()
  const said = heard(worker, 'message')
  worker.send('terminate')
  assert.deepEqual((await said)[0], { terminate: null })
})

test.ours('two clusters beside each other are independent', async ({ release, serve }) => {
  const [one, other] = [release(), release()]
  const [first, second] = [await serve(one.file), await serve(other.file)]
  other.put('serves', 2)
  const old = first.activeWorkers()[0]
  first.on('exit', () => assert.fail('nobody leaves the first cluster'))
  const left = heard(second, 'exit')
  await second.reload()
  await left
  assert.equal(first.activeWorkers()[0], old)
  assert.deepEqual([first.workers().length, second.workers().length], [1, 1])
  second.activeWorkers()[0].process.kill('SIGKILL')
  await heard(second, 'ready')
  assert.deepEqual(first.workers(), [old])
})
