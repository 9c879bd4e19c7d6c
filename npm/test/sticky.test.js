// sticky-listen, the reference's companion, unmodified. It is given the bare function activeWorkers.
'use strict'

const assert = require('node:assert/strict')
const http = require('node:http')

const { test } = require('./lib/host')
const { directoryOf } = require('./lib/packages')
const { called, heard, until, within } = require('./lib/wait')

const ready = { readyWhen: 'ready', workers: 2 }

const balance = (made, options) => within('the balancer', (resolve) => {
  const balancer = require(directoryOf('sticky-listen')).createBalancer({ activeWorkers: made.activeWorkers, ...options })
  balancer.listen(0, '127.0.0.1', () => resolve(balancer))
})

// Makes a request from one of the addresses of this machine, 127.0.0.N.
const ask = (balancer, from = 1, headers = {}) => within('an answer', (resolve, reject) => {
  const { port } = balancer.address()
  const options = { host: '127.0.0.1', port, localAddress: `127.0.0.${from}`, agent: false, headers }
  http.get(options, (response) => {
    let text = ''
    response.on('data', (data) => { text += data })
    response.on('end', () => resolve(response.statusCode === 200 ? JSON.parse(text) : response.statusCode))
    response.on('error', reject)
  }).on('error', reject)
})

test('whoever comes from one address has one worker, and from many addresses all have some', async ({ serve }) => {
  const made = await serve('sticky.js', ready)
  const balancer = await balance(made)
  const slots = new Map()
  for (let from = 1; from <= 20; from++) {
    slots.set(from, (await ask(balancer, from)).slot)
    assert.equal((await ask(balancer, from)).slot, slots.get(from))
  }
  assert.deepEqual(new Set(slots.values()), new Set(['0', '1']))
  balancer.close()
})

test('behind a reload the new worker of the same slot answers', async ({ serve }) => {
  const made = await serve('sticky.js', ready)
  const balancer = await balance(made)
  const before = await ask(balancer)
  await called((done) => made.reload(done))
  const behind = await ask(balancer)
  assert.equal(behind.slot, before.slot)
  assert.notEqual(behind.pid, before.pid)
  balancer.close()
})

test('requests during a reload are answered by either', async ({ serve }) => {
  const made = await serve('sticky.js', ready)
  const balancer = await balance(made)
  let reloaded = false
  made.reload(() => { reloaded = true })
  let answered = 0
  await until('the reload', async () => {
    assert.equal((await ask(balancer, answered++ % 10 + 1)).url, '/')
    return reloaded
  })
  balancer.close()
})

test('while its worker is away, a client waits for the next one', async ({ serve }) => {
  const made = await serve('sticky.js', { ...ready, workers: 1 })
  const balancer = await balance(made, { retryDelay: 50, maxRetries: 400 })
  const before = await ask(balancer)
  const [worker] = made.workers()
  const gone = heard(worker.process, 'exit')
  worker.process.kill('SIGKILL')
  await gone
  assert.equal(made.activeWorkers()[0], null)
  assert.notEqual((await ask(balancer)).pid, before.pid)
  balancer.close()
})

test('behind a proxy the header tells the address, and what was read goes along', async ({ serve }) => {
  const made = await serve('sticky.js', ready)
  const balancer = await balance(made, { behindProxy: true })
  const slots = new Set()
  for (let from = 1; from <= 20; from++) {
    const headers = { 'X-Forwarded-For': `10.0.${from}.${from}` }
    const { slot } = await ask(balancer, 1, headers)
    assert.equal((await ask(balancer, 1, headers)).slot, slot)
    slots.add(slot)
  }
  assert.equal(slots.size, 2)
  balancer.close()
})
