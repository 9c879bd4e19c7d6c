// index.d.ts, docs/json.md and what the package gives: they have the same fields, of the same kinds.
'use strict'

const assert = require('node:assert/strict')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')

const { begin, get } = require('./lib/client')
const { active, fixture, onlyOurs, test } = require('./lib/host')
const { Declarations, ofPage, ofValues } = require('./lib/shapes')
const { called, heard, until } = require('./lib/wait')

const listening = { args: ['listen'] }

/** What the page describes and this package never gives: its cluster has no name, and it is not told by `sd_notify` what a worker does. */
const NEVER_GIVEN = ['name', 'workers[].status']

test.beside('the declared status is that of docs/json.md', onlyOurs, () => {
  const declared = new Declarations().shapeOf('Status')
  const page = ofPage('status')
  assert.deepEqual([...declared.kinds.keys(), ...NEVER_GIVEN].sort(), [...page.kinds.keys()].sort())
  for (const at of declared.kinds.keys()) {
    assert.deepEqual(declared.at(at), page.at(at), at)
    assert.deepEqual(declared.listed(at), page.listed(at), at)
  }
})

test.ours('the declared status is what status() gives', async ({ logger, make, recluster, serve }) => {
  const sticky = await serve('puppet.js', { ...listening, balance: 'sticky', env: { MARK: 'x' } })
  // At its address there is another balance than was asked for.
  const unix = await serve('puppet.js', { ...listening, args: ['listen on a path'], balance: 'kernel' })
  // One that starts for ever, and one that reloads for ever.
  const starting = make('puppet.js', { args: ['stay'] })
  starting.run()
  // That one runs by way of a symlink.
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'recluster-link-'))
  const link = path.join(directory, 'server.js')
  fs.symlinkSync(fixture('puppet.js'), link)
  const options = { ...listening, workers: 1, logger }
  const reloading = recluster(link, options)
  reloading.run()
  await heard(reloading, 'ready')
  options.args = ['stay']
  reloading.reload()
  const given = await Promise.all([sticky, unix, starting, reloading].map((made) => made.status()))
  fs.rmSync(directory, { recursive: true })
  // One with a worker that is stopped.
  const { pid } = given[0].workers[0]
  process.kill(pid, 'SIGSTOP')
  given.push(await until('the worker to be stopped', async () => {
    const status = await sticky.status()
    return status.workers.some((worker) => worker.stopped) && status
  }))
  process.kill(pid, 'SIGCONT')
  // One that hands connections out.
  const handing = await serve('puppet.js', { ...listening, workers: 2, balance: 'kernel' })
  given.push(await until('connections to be handed out', async () => {
    const status = await handing.status()
    return status.listeners[0].handing_out && status
  }))
  // One with an old worker that has a request, and then nothing but a timer.
  const made = make('puppet.js', { ...listening, args: [...(listening.args ?? []), 'stay'], timeout: 3600, exitGrace: 3600, workerMetrics: 'http' })
  const ready = heard(made, 'listening')
  made.run()
  const [, { port }] = await ready
  const request = await begin(port)
  await made.reload()
  await get(port)
  given.push(await until('what the new worker has answered', async () => {
    const status = await made.status()
    return status.workers.some((worker) => worker.http?.p99_seconds !== undefined) && status
  }))
  given.push(await until('what the old worker still has', async () => {
    const status = await made.status()
    return status.workers.some((worker) => worker.held) && status
  }))
  await request.finish()
  given.push(await until('what else keeps the old worker alive', async () => {
    const status = await made.status()
    return status.workers.some((worker) => worker.held?.alive) && status
  }))
  const [declared, real] = [new Declarations().shapeOf('Status'), ofValues(given)]
  // The next test has every verdict.
  for (const shape of [declared, real]) {
    for (const at of shape.kinds.keys()) if (at.startsWith('last_reload.')) shape.kinds.delete(at)
  }
  assert.deepEqual(real.at('last_reload'), ['null', 'object'])
  assert.deepEqual([...real.kinds.keys()].sort(), [...declared.kinds.keys()].sort())
  for (const at of declared.kinds.keys()) areDeclared(real, declared, at)
  // No process is without a pid, memory and CPU time here.
  for (const [at, kinds] of [['reload', ['null', 'object']], ['slots[].active', ['null', 'number']], ['workers[].seconds_left', ['null', 'number']]]) {
    assert.deepEqual(real.at(at), kinds, at)
  }
  for (const at of ['sticky_by', 'server_link', 'workers[].held']) assert.ok(real.at(at).includes('absent'), at)
})

test.ours('the declared error is what a reload fails with, and the status has its verdict', async ({ logger, recluster, release }) => {
  const errors = []
  const code = release()
  const options = { workers: 2, surge: 1, attempts: 1, respawn: 0.01, logger }
  const made = recluster(code.file, options)
  const last = []
  const fails = async () => {
    errors.push(await made.reload().then(() => assert.fail('it works'), (error) => error))
    await made.status().then((status) => last.push(status.last_reload), () => {})
  }
  await fails()
  made.run()
  await until('both workers to be active', () => active(made).length === 2)
  code.put('throws', 2)
  await fails()
  code.put('serves in part', 3)
  await fails()
  // The hint is for a worker that runs and does not listen: to run may take longer than the ready timeout.
  code.put('waits', 4)
  for (options.readyTimeout = 1; errors.at(-1).hint === undefined; options.readyTimeout *= 2) await fails()
  // It names an option as this package does.
  assert.match(errors.at(-1).hint, / readyWhen started or ready /)
  options.surge = 'many'
  await fails()
  delete options.surge
  const abandoned = fails()
  await called((done) => made.terminate(done))
  await abandoned
  const [declared, real] = [new Declarations().shapeOf('ReloadError'), ofValues(errors)]
  // Node's own.
  real.kinds.delete('cause')
  assert.deepEqual([...real.kinds.keys()].sort(), [...declared.kinds.keys()].sort())
  for (const at of declared.kinds.keys()) assert.deepEqual(real.at(at), declared.at(at), at)
  assert.deepEqual(real.listed('code'), declared.listed('code'))
  const kept = ofValues(last.filter((reload) => reload !== null))
  for (const at of kept.kinds.keys()) areDeclared(kept, new Declarations().shapeOf('LastReload'), at)
  for (const at of ['failure.stderr', 'replaced']) assert.ok(kept.kinds.has(at), at)
})

test.ours('the declared events are what a cluster emits', async ({ cluster, make }) => {
  const made = make('puppet.js', { ...listening })
  const emitted = new Map()
  const emit = made.emit
  made.emit = (event, ...args) => {
    emitted.set(event, [...emitted.get(event) ?? [], args])
    return emit.call(made, event, ...args)
  }
  made.run()
  const [worker] = await heard(made, 'ready')
  const said = heard(made, 'message')
  worker.send({ do: 'tell' })
  await said
  await called((done) => made.shutdown(done))
  const declared = new Declarations().tuplesOf('Events')
  // What a fault of the engine leads to has a test of its own.
  const usual = [...declared.keys()].filter((event) => event !== 'error')
  assert.deepEqual([...emitted.keys()].sort(), usual.sort())
  for (const [event, calls] of emitted) {
    const positions = [...declared.get(event).kinds.keys()].filter((at) => !at.includes('.'))
    for (const args of calls) {
      assert.equal(args.length, positions.length, event)
      assert.ok(args[0] instanceof cluster.Worker, event)
      args.forEach((arg, at) => assert.ok([typeof arg, 'any'].some((kind) => declared.get(event).at(`${at}`).includes(kind)), event))
    }
  }
  assert.deepEqual(Object.keys(emitted.get('listening')[0][1]).filter((name) => name !== 'fd').sort(), ['address', 'addressType', 'port'])
})

/** Whether all that a path was is declared. */
function areDeclared (real, declared, at) {
  for (const kind of real.at(at)) assert.ok(declared.at(at).includes(kind), `${at} is ${kind}`)
  const listed = declared.listed(at)
  for (const text of listed ? real.listed(at) ?? [] : []) assert.ok(listed.includes(text), `${at} is ${text}`)
}
