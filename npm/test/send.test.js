// worker.send(): what it takes, what it gives, and its errors.
'use strict'

const assert = require('node:assert/strict')

const { test } = require('./lib/host')
const { called, heard } = require('./lib/wait')

const started = { readyWhen: 'started' }

test('the callback is called once the message is on its way', async ({ serve }) => {
  const [worker] = (await serve('puppet.js', started)).workers()
  const heardBack = heard(worker, 'message')
  let returned = false
  const [error] = await called((done) => {
    worker.send({ do: 'say', message: 'hello' }, (...args) => {
      assert.ok(returned, 'not before send() returns')
      done(...args)
    })
    returned = true
  })
  assert.equal(error, null)
  assert.deepEqual((await heardBack)[0], 'hello')
})

test('the callback may stand behind a handle and options', async ({ serve }) => {
  const [worker] = (await serve('puppet.js', started)).workers()
  assert.deepEqual(await called((done) => worker.send('1', undefined, done)), [null])
  assert.deepEqual(await called((done) => worker.send('2', undefined, {}, done)), [null])
  assert.deepEqual(await called((done) => worker.send('3', null, { keepOpen: true }, done)), [null])
})

test('what is sent is as JSON has it', async ({ serve }) => {
  const [worker] = (await serve('puppet.js', started)).workers()
  const sent = [
    [{ a: undefined, b: new Date(0), c: [undefined, NaN] }, { b: '1970-01-01T00:00:00.000Z', c: [null, null] }],
    ['\n\u2028\ud83d\ude00\0', '\n\u2028\ud83d\ude00\0'],
    ['x'.repeat(3_000_000), 'x'.repeat(3_000_000)]
  ]
  for (const [message, expected] of sent) {
    const back = heard(worker, 'message')
    worker.send({ do: 'say', message })
    assert.deepEqual((await back)[0], expected)
  }
})

test('send tells when much is waiting', async ({ serve }) => {
  const [worker] = (await serve('puppet.js', started)).workers()
  process.kill(worker.process.pid, 'SIGSTOP')
  let sent = 0
  while (worker.send('x'.repeat(100_000))) assert.ok(++sent < 1000, 'a stopped worker reads nothing')
  process.kill(worker.process.pid, 'SIGCONT')
  const back = heard(worker, 'message')
  worker.send({ do: 'say', message: 'all the same' })
  assert.equal((await back)[0], 'all the same')
})

test('what cannot be sent is refused at once', async ({ serve }) => {
  const [worker] = (await serve('puppet.js', started)).workers()
  assert.throws(() => worker.send(), { name: 'TypeError', code: 'ERR_MISSING_ARGS' })
  assert.throws(() => worker.send(undefined), { name: 'TypeError', code: 'ERR_MISSING_ARGS' })
  assert.throws(() => worker.send(Symbol('no')), { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE' })
  assert.throws(() => worker.send(() => {}), { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE' })
  assert.throws(() => worker.send(1n), { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE' })
  assert.throws(() => worker.send('x', {}), { name: 'TypeError', code: 'ERR_INVALID_HANDLE_TYPE' })
  assert.throws(() => worker.send('x', undefined, 'options'), { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE' })
  const circle = {}
  circle.circle = circle
  assert.throws(() => worker.send(circle), { name: 'TypeError', message: /circular/ })
})

test('a closed channel is told to the callback', async ({ serve }) => {
  const made = await serve('puppet.js', { args: ['listen', 'stay'] })
  const [worker] = made.workers()
  const closed = heard(worker, 'disconnect')
  worker.send({ do: 'leave' })
  await closed
  const [error] = await called((done) => assert.equal(worker.send('too late', done), false))
  assert.equal(error.code, 'ERR_IPC_CHANNEL_CLOSED')
})

test('without a callback it is an error event of the worker, on the next tick', async ({ serve }) => {
  const made = await serve('puppet.js', { args: ['listen', 'stay'] })
  const [worker] = made.workers()
  made.on('error', () => assert.fail('the cluster has no errors'))
  const closed = heard(worker, 'disconnect')
  worker.send({ do: 'leave' })
  await closed
  const [ofWorker, ofProcess] = [heard(worker, 'error'), heard(worker.process, 'error')]
  assert.equal(worker.send('too late'), false)
  assert.equal((await ofWorker)[0].code, 'ERR_IPC_CHANNEL_CLOSED')
  assert.equal((await ofProcess)[0].code, 'ERR_IPC_CHANNEL_CLOSED')
})

test('a worker that is dead is one whose channel is closed', async ({ serve }) => {
  const [worker] = (await serve('puppet.js', started)).workers()
  const gone = heard(worker, 'exit')
  worker.process.kill('SIGKILL')
  await gone
  const [error] = await called((done) => assert.equal(worker.send('too late', done), false))
  assert.equal(error.code, 'ERR_IPC_CHANNEL_CLOSED')
})

test('process.disconnect() closes the channel from here', async ({ serve }) => {
  const [worker] = (await serve('puppet.js', started)).workers()
  const gone = heard(worker, 'exit')
  const closed = heard(worker, 'disconnect')
  worker.process.disconnect()
  assert.equal(worker.isConnected(), false)
  await closed
  assert.deepEqual(await gone, [0, null])
  const error = heard(worker.process, 'error')
  worker.on('error', () => {})
  worker.process.disconnect()
  assert.equal((await error)[0].code, 'ERR_IPC_DISCONNECTED')
})
