// The ends and the edges: what is called when everything is over, and what few programs do.
'use strict'

const assert = require('node:assert/strict')
const { execFileSync } = require('node:child_process')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')

const { output } = require('./lib/program')
const { active, fixture, test } = require('./lib/host')
const { called, heard, until } = require('./lib/wait')

const started = { readyWhen: 'started', args: ['stay'] }

for (const method of ['shutdown', 'terminate']) {
  test.beside(`${method} calls back after stop, though nothing else keeps the process alive`, async () => {
    const script = `
      const made = require(process.argv[1])(process.argv[2], { workers: 1, readyWhen: 'started' })
      made.run()
      made.once('ready', () => { made.stop(); made.${method}(() => console.log('called back')) })`
    const text = await output(['-e', script, path.join(__dirname, '..'), fixture('puppet.js')])
    assert.match(text, /called back/)
  })
}

test.ours('run after stop, where the last worker has just gone, starts others', async ({ serve }) => {
  const made = await serve('puppet.js', started)
  for (const event of ['exit', 'close']) {
    const [worker] = made.workers()
    made.stop()
    const again = new Promise((resolve) => worker.process.once(event, () => { made.run(); resolve() }))
    worker.kill('SIGKILL')
    await again
    await until('a worker to be active', () => active(made).length === 1)
  }
})

test.ours('a message of many megabytes arrives', async ({ serve }) => {
  const made = await serve('puppet.js', started)
  const long = 'x'.repeat(20_000_000)
  const [worker] = made.workers()
  const heardOf = heard(made, 'message')
  await called((done) => worker.send({ do: 'say', message: long }, done))
  const [, message] = await heardOf
  assert.equal(message.length, long.length)
})

test.beside('ids are unique beside a fork that was imported by its name', async () => {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'recluster-'))
  const script = path.join(directory, 'host.mjs')
  fs.writeFileSync(script, `
    import { fork } from 'node:cluster'
    import { createRequire } from 'node:module'
    const recluster = createRequire(import.meta.url)(process.argv[2])
    const made = recluster(process.argv[3], { workers: 2, readyWhen: 'started', args: ['stay'] })
    made.run()
    const forked = fork()
    console.log(new Set([...made.workers().map((worker) => worker.id), forked.id]).size)
    forked.process.kill('SIGKILL')
    made.terminate()`)
  try {
    assert.match(await output([script, path.join(__dirname, '..'), fixture('puppet.js')]), /^3$/m)
  } finally {
    fs.rmSync(directory, { recursive: true })
  }
})

test.beside('two copies of the package count workers together', async () => {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'recluster-'))
  for (const copy of ['one', 'two']) {
    for (const part of ['index.js', 'package.json', 'lib']) {
      fs.cpSync(path.join(__dirname, '..', part), path.join(directory, copy, part), { recursive: true })
    }
  }
  const script = `
    const [, one, two, server] = process.argv
    const made = [one, two].map((copy) => require(copy)(server, { workers: 2, readyWhen: 'started', args: ['stay'] }))
    made.forEach((each) => each.run())
    console.log(Object.keys(require('cluster').workers).length)
    made.forEach((each) => each.terminate())`
  // Each copy finds an addon of its own, as an installed one does; the dynamic linker knows two files of one content apart.
  const addon = process.env.RECLUSTER_ADDON || addonBeside(path.join(__dirname, '..'))
  for (const copy of ['one', 'two']) {
    fs.copyFileSync(addon, path.join(directory, copy, `recluster.linux-${process.arch}-gnu.node`))
  }
  try {
    const args = ['-e', script, path.join(directory, 'one'), path.join(directory, 'two'), fixture('puppet.js')]
    assert.match(await output(args, { env: { RECLUSTER_ADDON: '' } }), /^4$/m)
  } finally {
    fs.rmSync(directory, { recursive: true })
  }
})

test.beside('a cluster that is over is forgotten, and all that belongs to it', async () => {
  const script = `
    const recluster = require(process.argv[1])
    let collected = 0
    const registry = new FinalizationRegistry(() => { collected += 1 })
    const once = () => new Promise((resolve) => {
      const made = recluster(process.argv[2], { workers: 1, readyWhen: 'started', args: ['stay'] })
      registry.register(made)
      made.run()
      made.terminate(resolve)
    })
    const main = async () => {
      for (let run = 0; run < 10; run += 1) await once()
      // What the last one leaves on the stack may stay.
      while (collected < 9) {
        gc()
        await new Promise((resolve) => setImmediate(resolve))
      }
      console.log('collected')
    }
    main()`
  const text = await output(['--expose-gc', '-e', script, path.join(__dirname, '..'), fixture('puppet.js')])
  assert.match(text, /collected/)
})

test.ours('why a worker could not be started is logged', async ({ cluster, log, make }) => {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'recluster-'))
  cluster.setupPrimary({ cwd: directory })
  const made = make(fixture('puppet.js'), { ...started, respawn: 0.01 })
  made.run()
  await until('the worker to be active', () => active(made).length === 1)
  fs.rmdirSync(directory)
  made.workers()[0].kill('SIGKILL')
  await until('a line that says why', () => log.some(([line]) => /could not be started: .*No such file/.test(line)))
})

test.ours('a logger that is wrong refuses a reload, and nothing else', async ({ logger, recluster }) => {
  const options = { workers: 1, ...started, respawn: 0.01, logger }
  const made = recluster(fixture('puppet.js'), options)
  made.run()
  await until('the worker to be active', () => active(made).length === 1)
  options.logger = {}
  const [error] = await called((done) => made.reload(done))
  assert.equal(error.code, 'ERR_RECLUSTER_REFUSED')
  made.workers()[0].kill('SIGKILL')
  await heard(made, 'exit')
  await until('the next worker to be active', () => active(made).length === 1)
})

test.ours('the scheduling policy of node is the balance, where somebody has chosen it', async ({ cluster, make }) => {
  const balance = async () => {
    const made = make(fixture('puppet.js'), started)
    made.run()
    return (await made.status()).balance
  }
  assert.equal(cluster.schedulingPolicy, cluster.SCHED_RR)
  assert.equal(await balance(), 'kernel')
  cluster.setupPrimary({ schedulingPolicy: cluster.SCHED_NONE })
  assert.equal(await balance(), 'shared')
  cluster.setupPrimary({ schedulingPolicy: cluster.SCHED_RR })
  assert.equal(await balance(), 'round-robin')
  cluster.schedulingPolicy = cluster.SCHED_NONE
  assert.equal(await balance(), 'shared')
  cluster.schedulingPolicy = cluster.SCHED_RR
  assert.equal(await balance(), 'round-robin')
})

for (const [policy, balance] of [['rr', 'round-robin'], ['none', 'shared'], ['', 'kernel']]) {
  test.ours(`NODE_CLUSTER_SCHED_POLICY=${policy} is the balance ${balance}`, { env: { NODE_CLUSTER_SCHED_POLICY: policy } }, async ({ make }) => {
    const made = make(fixture('puppet.js'), started)
    made.run()
    assert.equal((await made.status()).balance, balance)
  })
}

test.ours('connections reach workers as the options say', async ({ make }) => {
  const balance = async (options) => {
    const made = make(fixture('puppet.js'), { ...started, ...options })
    made.run()
    const status = await made.status()
    return [status.balance, status.sticky_by]
  }
  assert.deepEqual(await balance({ balance: 'kernel' }), ['kernel', undefined])
  assert.deepEqual(await balance({ balance: 'sticky' }), ['sticky', 'ip'])
  const cookie = { balance: 'sticky', stickyBy: 'cookie:sid', peekBytes: 4096, peekTimeout: 1, peekConnections: 100 }
  assert.deepEqual(await balance(cookie), ['sticky', 'cookie:sid'])
  const refused = (options) => () => make(fixture('puppet.js'), { ...started, ...options }).run()
  assert.throws(refused({ stickyBy: 'ip' }), /stickyBy must be left out where `balance` is not 'sticky', not 'ip'/)
  assert.throws(refused({ balance: 'sticky', stickyBy: 'sid' }), /'sid' is nothing to know a client by/)
  for (const checkInterval of [0, 0.001]) {
    assert.throws(refused({ readyCheck: 'exec:true', checkInterval }), /checkInterval must be a number of seconds, 0.01 or more, not 0/)
  }
  assert.throws(refused({ readyTimeout: 0 }), /readyTimeout must be a number of seconds above 0, not 0/)
  assert.throws(refused({ balance: 'best' }), /balance must be 'round-robin' or 'shared' or 'kernel' or 'sticky'/)
})

test.ours('what an option must not be is shown as it was written, on one short line', async ({ make }) => {
  const shown = (options) => {
    try {
      make(fixture('puppet.js'), { ...started, ...options }).run()
    } catch (error) {
      return error.message.replace(/^.* not /, '')
    }
  }
  assert.equal(shown({ drainHttp: { on: true } }), '{ on: true }')
  assert.equal(shown({ workers: [2] }), '[ 2 ]')
  assert.equal(shown({ args: { port: 80, deep: { deeper: { deepest: 1 } } } }), '{ port: 80, deep: { deeper: [Object] } }')
  assert.equal(shown({ envFile: ['.env', 7] }), "[ '.env', 7 ]")
  assert.equal(shown({ stickyBy: () => 'ip' }), '[Function: stickyBy]')
  assert.equal(shown({ readyCheck: Symbol('check') }), 'Symbol(check)')
  assert.equal(shown({ balance: 'a\nb' }), "'a\\nb'")
  assert.equal(shown({ respawn: 'soon' }), "'soon'")
  assert.equal(shown({ readyCheck: { toString: () => { throw new Error('never') } } }), '{ toString: [Function: toString] }')
  assert.equal(shown({ surge: { [Symbol.for('nodejs.util.inspect.custom')]: () => { throw new Error('never') } } }), 'object')
  for (const long of ['x'.repeat(1e6), { x: 'x'.repeat(1e6), y: Array(1e5).fill('why'), z: 'z'.repeat(90), ...process.versions }]) {
    assert.ok(shown({ drainHttp: long }).length < 250, shown({ drainHttp: long }))
  }
  assert.doesNotMatch(shown({ env: { SECRET: 'of mine\0' } }), /mine/)
})

test.ours('a server that is a directory is found as node finds it', async ({ make }) => {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'recluster-'))
  fs.mkdirSync(path.join(directory, 'lib'))
  fs.writeFileSync(path.join(directory, 'package.json'), '{ "main": "./lib" }')
  fs.writeFileSync(path.join(directory, 'index.js'), 'process.exit(3)')
  fs.writeFileSync(path.join(directory, 'lib', 'index.js'), 'setInterval(() => {}, 1000); process.send("found")')
  const made = make(directory, { ...started })
  const said = heard(made, 'message')
  made.run()
  assert.equal((await said)[1], 'found')
  fs.rmSync(directory, { recursive: true })
})
