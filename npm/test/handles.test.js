// Sockets and servers that go between the master and its workers with messages.
'use strict'

const assert = require('node:assert/strict')
const { execFileSync } = require('node:child_process')
const dgram = require('node:dgram')
const fs = require('node:fs')
const http = require('node:http')
const net = require('node:net')

const { test: once } = require('./lib/host')
const { called, heard, heardOften, until, within } = require('./lib/wait')

const started = { readyWhen: 'started' }
const major = Number(process.versions.node.split('.')[0])

// Handles go with messages of both kinds.
function test (name, options, body = options) {
  once(name, options, body)
  once(`${name}, beside a value of V8`, options, (host) => {
    host.cluster.setupPrimary({ serialization: 'advanced' })
    return body(host)
  })
}
test.ours = (name, options, body = options) => once.ours(name, options, body)

const listen = (server) => within('a server', (resolve) => server.listen(0, '127.0.0.1', () => resolve(server.address().port)))

// What a server says to whoever connects.
const connect = (port) => within('an answer', (resolve, reject) => {
  let text = ''
  const socket = net.connect(port, '127.0.0.1')
  socket.on('data', (data) => { text += data })
  socket.on('error', reject)
  socket.on('end', () => resolve(text))
})

// Sends a datagram until it is answered: none is ever sure to arrive.
const ask = (port) => within('an answer', (resolve) => {
  const socket = dgram.createSocket('udp4')
  socket.on('message', (text) => resolve(`${text}`))
  const again = setInterval(() => socket.send('?', port, '127.0.0.1'), 100)
  return () => {
    clearInterval(again)
    socket.close()
  }
})

test('a connection is given to a worker', async ({ serve }) => {
  const [worker] = (await serve('handles.js', started)).workers()
  const server = net.createServer({ pauseOnConnect: true })
  const port = await listen(server)
  const answer = connect(port)
  const [socket] = await heard(server, 'connection')
  const [error] = await called((done) => assert.equal(worker.send({ given: 'socket' }, socket, done), true))
  assert.equal(error, null)
  assert.equal(await answer, `a socket from ${worker.process.pid}`)
  const [closed] = await called((done) => server.close(done))
  assert.equal(closed, undefined, 'the server does not wait for what it has given away')
})

test('a connection of an http server is given to a worker', async ({ serve }) => {
  const [worker] = (await serve('handles.js', started)).workers()
  const server = http.createServer()
  server.on('connection', (socket) => worker.send({ given: 'socket' }, socket))
  const port = await listen(server)
  assert.equal(await connect(port), `a socket from ${worker.process.pid}`)
  server.close()
})

test('many connections are given to two workers, each once', async ({ serve }) => {
  const workers = (await serve('handles.js', { ...started, workers: 2 })).workers()
  let next = 0
  const server = net.createServer({ pauseOnConnect: true }, (socket) => {
    workers[next++ % 2].send({ given: 'socket' }, socket)
  })
  const port = await listen(server)
  const answers = await Promise.all(Array.from({ length: 50 }, () => connect(port)))
  for (const worker of workers) {
    assert.equal(answers.filter((answer) => answer === `a socket from ${worker.process.pid}`).length, 25)
  }
  server.close()
})

test('a listening server is shared with a worker', { skip: major < 20 && 'Node 18 gives it no connections' }, async ({ serve }) => {
  const [worker] = (await serve('handles.js', started)).workers()
  const server = net.createServer()
  const port = await listen(server)
  const took = heard(worker, 'message', ({ took }) => took === 'server')
  worker.send({ given: 'server' }, server)
  await took
  // Ours is closed, so that the worker's is the one that answers: a handle that was given is a copy.
  await called((done) => server.close(done))
  assert.equal(await connect(port), `a server from ${worker.process.pid}`)
})

test('a datagram socket is shared with a worker', async ({ serve }) => {
  const [worker] = (await serve('handles.js', started)).workers()
  const socket = dgram.createSocket('udp4')
  await within('a socket', (resolve) => socket.bind(0, '127.0.0.1', resolve))
  const { port } = socket.address()
  await called((done) => worker.send({ given: 'dgram' }, socket, done))
  socket.close()
  assert.equal(await ask(port), `a datagram from ${worker.process.pid}`)
})

test('a worker gives a connection away', async ({ cluster, serve }) => {
  const made = await serve('handles.js', started)
  const [worker] = made.workers()
  const gives = ({ gives }) => gives === 'socket'
  const heardBy = Promise.all([
    heard(worker, 'message', gives),
    heard(worker.process, 'message', gives),
    heard(cluster, 'message', (worker, message) => gives(message)),
    heard(made, 'message', (worker, message) => gives(message))
  ])
  const listens = heard(worker, 'message', ({ port }) => port)
  worker.send({ do: 'socket' })
  const [{ port }] = await listens
  const answer = connect(port)
  const [[, socket], [, same], [, , too], object] = await heardBy
  assert.ok(socket instanceof net.Socket)
  assert.equal(same, socket)
  assert.equal(too, socket)
  assert.equal(object.length, 2, 'the cluster tells of the message alone')
  socket.end('from the master')
  assert.equal(await answer, 'from the master')
})

test('a worker gives a server away', async ({ serve }) => {
  const [worker] = (await serve('handles.js', started)).workers()
  const gives = heard(worker, 'message', ({ gives }) => gives === 'server')
  worker.send({ do: 'server' })
  const [, server] = await gives
  assert.ok(server instanceof net.Server)
  assert.equal(server.listening, true)
  server.on('connection', (socket) => socket.end('from the master'))
  assert.equal(await connect(server.address().port), 'from the master')
  await called((done) => server.close(done))
})

test('a worker gives a datagram socket away', async ({ serve }) => {
  const [worker] = (await serve('handles.js', started)).workers()
  const gives = heard(worker, 'message', ({ gives }) => gives === 'dgram')
  worker.send({ do: 'dgram' })
  const [, socket] = await gives
  assert.ok(socket instanceof dgram.Socket)
  socket.on('message', (text, { address, port }) => socket.send('from the master', port, address))
  assert.equal(await ask(socket.address().port), 'from the master')
  socket.close()
})

test('a socket that is closed already is left out, and its message arrives', async ({ serve }) => {
  const [worker] = (await serve('handles.js', started)).workers()
  const socket = new net.Socket()
  const arrived = heard(worker, 'message', (message) => 'arrived' in message)
  worker.send({ given: 'anything' }, socket)
  assert.deepEqual((await arrived)[0], { arrived: null })
})

test('messages keep their order beside handles', async ({ serve }) => {
  const [worker] = (await serve('handles.js', started)).workers()
  const socket = dgram.createSocket('udp4')
  await within('a socket', (resolve) => socket.bind(0, '127.0.0.1', resolve))
  const arrived = []
  const all = heard(worker, 'message', (message) => {
    if ('arrived' in message) arrived.push(message.arrived)
    return arrived.length === 6
  })
  for (let time = 0; time < 3; time++) {
    worker.send({ given: 'anything' }, socket)
    worker.send({ given: 'anything' })
  }
  await all
  assert.deepEqual(arrived, ['Socket', null, 'Socket', null, 'Socket', null])
  socket.close()
})

// What is written on stderr, with which the cluster tells what a worker did wrong.
function stderr () {
  const written = []
  const write = process.stderr.write
  process.stderr.write = (text, ...rest) => {
    written.push(String(text))
    return write.call(process.stderr, text, ...rest)
  }
  return () => written.join('')
}

const descriptors = () => fs.readdirSync('/proc/self/fd').length

// What a worker that has been taken over may say of what it sends.
const LIES = {
  'net.Socket': ['nothing', 'pipe', 'a file', 'listener', 'udp', 'unconnected'],
  'net.Server': ['nothing', 'pipe', 'udp', 'connection', 'unconnected'],
  'net.Native': ['nothing', 'pipe', 'udp', 'listener'],
  'dgram.Native': ['nothing', 'pipe', 'listener', 'udp'],
  udp4: ['nothing', 'pipe', 'listener', 'connection'],
  udp6: ['nothing', 'udp', 'a file', 'unconnected']
}

for (const [type, things] of Object.entries(LIES)) {
  test.ours(`what is sent as ${type} and is none is closed, and told once`, async ({ serve }) => {
    const told = stderr()
    const [worker] = (await serve('lies.js', { ...started, execArgv: ['--no-deprecation'] })).workers()
    const before = descriptors()
    let number = 0
    for (let round = 0; round < 3; round++) {
      for (const thing of things) {
        number += 1
        // A message whose descriptor was lost on the way is not heard: Node sends it again.
        const said = heard(worker, 'message', (message) => thing === 'nothing' ? message.lives : message.number === number)
        worker.send({ lie: type, thing, number })
        if (thing === 'nothing') worker.send({ do: 'tell' })
        assert.equal((await said)[1], undefined, thing)
      }
    }
    const lives = heard(worker, 'message', ({ lives }) => lives)
    worker.send({ do: 'tell' })
    await lives
    assert.equal(descriptors(), before)
    const lines = told().split('\n').filter((line) => line.includes('something as a'))
    assert.deepEqual(lines, [`recluster: worker 1 sent something as a ${type} that is none: it was closed`])
  })
}

test.ours('a connection that is reset before anybody listens to its errors does not end its new owner', { faulty: true }, async ({ serve }) => {
  const told = stderr()
  const [worker] = (await serve('lies.js', started)).workers()
  const gives = heard(worker, 'message', ({ gives }) => gives)
  worker.send({ do: 'reset' })
  const [, socket] = await gives
  if (socket && !socket.destroyed) {
    await within('its end', (resolve) => socket.once('close', resolve))
    await until('the fault', () => told().includes('a net.Socket from a worker failed, and the cluster goes on'))
  }
  const lives = heard(worker, 'message', ({ lives }) => lives)
  worker.send({ do: 'tell' })
  await lives
})

test.ours('a worker that sends connections without end does not take all descriptors of its master', async ({ serve }) => {
  const told = stderr()
  execFileSync('prlimit', ['--pid', process.pid, '--nofile=256:256'])
  const share = 256 / 8
  const [worker] = (await serve('lies.js', started)).workers()
  const many = share + 10
  const all = heardOften(worker, 'message', many)
  worker.send({ do: 'gives many', many })
  const got = (await all).map(([, socket]) => socket).filter((socket) => socket !== undefined)
  assert.equal(got.length, share)
  assert.equal(told().split('too many sockets').length - 1, 1)
  // When one is closed there is room for another.
  await within('its end', (resolve) => got[0].once('close', resolve).destroy())
  const gives = heard(worker, 'message', ({ gives }) => gives)
  worker.send({ do: 'gives many', many: 1 })
  got.push((await gives)[1])
  assert.ok(got.at(-1) instanceof net.Socket)
  got.forEach((socket) => socket.destroy())
})

test.ours('eight workers that send connections without end have half of all descriptors together, in equal shares', async ({ serve }) => {
  execFileSync('prlimit', ['--pid', process.pid, '--nofile=256:256'])
  const workers = (await serve('lies.js', { ...started, workers: 8 })).workers()
  const share = 256 / 2 / 8
  const many = share + 4
  const heard = workers.map((worker) => heardOften(worker, 'message', many))
  workers.forEach((worker) => worker.send({ do: 'gives many', many }))
  for (const all of await Promise.all(heard)) {
    const got = all.map(([, socket]) => socket).filter((socket) => socket !== undefined)
    assert.equal(got.length, share)
    got.forEach((socket) => socket.destroy())
  }
})
