// cluster.settings.serialization: what JSON does not know arrives as it does with Node's own cluster, and everything else goes on as
// it does with JSON. (`handles.test.js` has the sockets that go with messages.)
'use strict'

const assert = require('node:assert/strict')

const { get } = require('./lib/client')
const { active, test } = require('./lib/host')
const { called, heard, heardOften, until } = require('./lib/wait')
const { Point, values } = require('./fixtures/values')

const started = { readyWhen: 'started' }

// A test whose workers speak so from the beginning.
const advanced = (name, body) => test(name, (host) => {
  host.cluster.setupPrimary({ serialization: 'advanced' })
  return body(host)
})

// What a worker answers to a message.
async function ask (worker, message, key) {
  const answer = heard(worker, 'message', (answer) => key in answer)
  worker.send(message)
  const [answered] = await answer
  return answered
}

advanced('what JSON does not know goes to a worker and back', async ({ serve }) => {
  const [worker] = (await serve('values.js', started)).workers()
  const { got } = await ask(worker, { do: 'compare', values: values() }, 'got')
  assert.deepEqual(got, values())
  assert.ok(Buffer.isBuffer(got.buffer), 'a Buffer is one')
  assert.ok(!(1 in got.sparse), 'a hole is one')
  assert.equal(got.circle.list[0], got.circle)
})

advanced('what is more than an object arrives as one', async ({ serve }) => {
  const [worker] = (await serve('values.js', started)).workers()
  assert.equal((await ask(worker, { do: 'point', point: new Point(5) }, 'point')).point, 'Object 5 undefined')
})

advanced('what cannot be copied throws at send()', async ({ serve }) => {
  const [worker] = (await serve('values.js', started)).workers()
  assert.throws(() => worker.send({ call () {} }), { message: 'call () {} could not be cloned.' })
  assert.throws(() => worker.send({ promise: Promise.resolve() }), { message: '#<Promise> could not be cloned.' })
  assert.throws(() => worker.send(5n), { code: 'ERR_INVALID_ARG_TYPE' })
  assert.ok(await ask(worker, { do: 'compare', values: values() }, 'same'), 'the channel is as it was')
})

advanced('values that are no object are messages', async ({ cluster, serve }) => {
  const [worker] = (await serve('values.js', started)).workers()
  for (const message of ['text', 5, true, null]) assert.equal(worker.send(message), true)
  assert.ok(await ask(worker, { do: 'compare', values: values() }, 'same'))
})

advanced('many messages arrive whole and in order, and so does one of megabytes', async ({ serve }) => {
  const [worker] = (await serve('values.js', started)).workers()
  const all = heardOften(worker, 'message', 3000)
  worker.send({ do: 'many', count: 3000 })
  for (const [index, [{ number, data }]] of (await all).entries()) {
    assert.equal(number, index)
    assert.ok(data.equals(Buffer.alloc(1000, index)))
  }
  const { large } = await ask(worker, { do: 'large', data: Buffer.alloc(20 << 20, 7) }, 'large')
  assert.ok(large.equals(Buffer.alloc(20 << 20, 7)))
})

advanced('workers serve and are reloaded', async ({ cluster, serve, start }) => {
  const listening = heard(cluster, 'listening')
  const made = start('values.js', { workers: 2, args: ['listen'] })
  const [, { port }] = await listening
  await until('both to be active', () => active(made).length === 2)
  const old = new Set()
  await until('an answer of each', async () => old.add((await get(port)).pid).size === 2)
  await called((done) => made.reload(done))
  const answers = await Promise.all(Array.from({ length: 20 }, () => get(port)))
  assert.ok(answers.every(({ pid }) => !old.has(pid)), 'the new ones answer')
  await until('the old ones to be gone', () => made.workers().length === 2)
})

advanced('the words of workers count, whatever is beside them', async ({ start }) => {
  const made = start('values.js', { readyWhen: 'ready' })
  const [worker] = made.workers()
  await heard(worker, 'online')
  worker.send({ do: 'ready' })
  await until('it to be active', () => active(made)[0] === worker)
  worker.send({ do: 'fail' })
  await until('another one', () => made.workers().some((other) => other !== worker))
})

advanced('a worker that leaves by itself is let go', async ({ serve }) => {
  const made = await serve('values.js', { args: ['listen'] })
  const [worker] = made.workers()
  const exit = heard(worker, 'exit')
  worker.send({ do: 'leave' })
  assert.deepEqual(await exit, [0, null])
  await until('another one', () => active(made).some((other) => other !== worker))
})

test('a reload goes from one way to the other and back', async ({ cluster, serve }) => {
  const made = await serve('values.js', started)
  const isCopy = async () => (await ask(active(made)[0], { do: 'json', buffer: Buffer.from('b') }, 'map')).map instanceof Map
  assert.equal(await isCopy(), false)
  for (const serialization of ['advanced', 'json']) {
    cluster.setupPrimary({ serialization })
    await called((done) => made.reload(done))
    await until('the old one to be gone', () => made.workers().length === 1)
    assert.equal(await isCopy(), serialization === 'advanced')
  }
})

test('what is no way to write messages is refused as Node refuses it', async ({ cluster, make }) => {
  for (const [serialization, shown] of [['bogus', "'bogus'"], [null, 'null'], ['', "''"]]) {
    cluster.setupPrimary({ serialization })
    assert.throws(() => make('values.js', started).run(), {
      name: 'TypeError',
      code: 'ERR_INVALID_ARG_VALUE',
      message: `The property 'options.serialization' must be one of: undefined, 'json', 'advanced'. Received ${shown}`
    })
  }
})
