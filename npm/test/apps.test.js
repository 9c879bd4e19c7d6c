// Real applications, switched from the reference to ours by their require('recluster') alone: the same tests with both.
'use strict'

const assert = require('node:assert/strict')

const { install } = require('./lib/app')
const { get, request } = require('./lib/client')
const { test } = require('./lib/host')
const { directoryOf, isReference, reference, underTest } = require('./lib/packages')
const { heard, until, within } = require('./lib/wait')

const MODULES = isReference ? [['the reference', reference]] : [['the reference', reference], ['ours', underTest]]

function start (t, name, module) {
  const app = install(name, module)
  const program = app.run('cluster.js')
  t.after(() => {
    program.destroy()
    app.remove()
  })
  return program
}

const kinds = (program, kind) => program.messages.filter((message) => kind in message)

// A client of the chat, which is in the room.
async function join (port) {
  const socket = require(directoryOf('socket.io-client'))(`http://127.0.0.1:${port}`, { reconnectionDelay: 50, forceNew: true })
  await heard(socket, 'connect')
  return { socket, pid: await enter(socket) }
}

const enter = (socket) => within('an answer', (resolve) => { socket.emit('join', 'room', resolve) })

for (const [whose, module] of MODULES) {
  test.beside(`a chat of express and socket.io, with ${whose}`, async (t) => {
    const program = start(t, 'apps/chat', module)
    await until('it to listen', () => kinds(program, 'listening').length === 1)
    const [{ listening: port, pid }] = kinds(program, 'listening')
    const clients = [await join(port), await join(port)]
    t.after(() => clients.forEach(({ socket }) => socket.disconnect()))
    assert.deepEqual(clients.map((client) => client.pid), [pid, pid])
    const said = heard(clients[1].socket, 'said')
    clients[0].socket.emit('say', 'room', 'hello')
    assert.deepEqual(await said, ['hello', pid])

    const away = clients.map(({ socket }) => heard(socket, 'disconnect'))
    const back = clients.map(({ socket }) => heard(socket, 'connect'))
    program.kill('SIGUSR2')
    await Promise.all([...away, ...back])
    const now = await Promise.all(clients.map(({ socket }) => enter(socket)))
    assert.ok(now.every((pid) => pid === kinds(program, 'listening')[1].pid), 'with the new worker')
    const saidAgain = heard(clients[1].socket, 'said')
    clients[0].socket.emit('say', 'room', 'hello again')
    assert.deepEqual(await saidAgain, ['hello again', now[0]])
    await until('the old one to be gone', () => kinds(program, 'exited').some(({ exited }) => exited === pid))
    assert.equal((await get(port)).pid, now[0])
  })

  test.beside(`an express app with a logger of its own, with ${whose}`, async (t) => {
    const program = start(t, 'apps/shop', module)
    await until('both to listen', () => kinds(program, 'listening').length === 2)
    const [{ listening: port }] = kinds(program, 'listening')
    const first = await get(port)
    assert.equal(first.currency, 'EUR')
    const { status } = await request(port, {
      path: '/sales', method: 'POST', body: '{"article":"lamp"}', headers: { 'Content-Type': 'application/json', Connection: 'close' }
    })
    assert.equal(status, 201)
    assert.deepEqual(await program.told('said'), { sale: 'lamp' })

    await request(port, { path: '/crash' })
    const [prefix, line, time] = await program.told('logged')
    assert.equal(prefix, 'shop')
    assert.match(line, /^\[\d+\] worker \([01]:\d+\) must be replaced, respawning in$/)
    assert.equal(typeof time, 'number')
    await until('its replacement', () => kinds(program, 'listening').length === 3)

    const old = kinds(program, 'listening').map(({ pid }) => pid)
    program.kill('SIGUSR2')
    await program.told('reloaded')
    await until('an answer of new code', async () => !old.includes((await get(port)).pid))
    program.kill('SIGTERM')
    assert.deepEqual(await program.ended(), [0, null])
    await program.abandoned()
  })

  test.beside(`socket.io in three workers, by its recipe for recluster, with ${whose}`, async (t) => {
    const program = start(t, 'apps/rooms', module)
    const port = await program.told('listening')
    const client = require(directoryOf('socket.io-client'))
    const options = { reconnectionDelay: 50, reconnectionDelayMax: 200, forceNew: true }
    const clients = Array.from({ length: 12 }, () => client(`http://127.0.0.1:${port}`, options))
    t.after(() => clients.forEach((socket) => socket.disconnect()))
    let workers = await settled(clients, [])
    assert.ok(workers.size > 1, 'they are with several workers')
    await assertAllHear(clients, 'before any reload')

    for (const round of ['first', 'second', 'third']) {
      program.kill('SIGUSR2')
      await until('the reload', () => kinds(program, 'reloaded').length > 0)
      program.messages = program.messages.filter((message) => !('reloaded' in message))
      const old = workers
      workers = await settled(clients, old)
      await assertAllHear(clients, `behind the ${round} reload`)
      await until('the old workers to be gone', () => [...old].every((pid) => kinds(program, 'exited').some(({ exited }) => exited === pid)))
    }
    assert.equal(kinds(program, 'forked').length, 12, 'three workers each time, and none has died')
  })
}

// Waits until all clients are connected with workers that are none of these, and gives their pids.
async function settled (clients, old) {
  const where = (socket) => within('an answer', (resolve) => {
    if (socket.connected) socket.timeout(1000).emit('where', (error, pid) => resolve(error ? undefined : pid))
    else resolve()
  })
  return until('all clients to be with new workers', async () => {
    const pids = await Promise.all(clients.map(where))
    return pids.every((pid) => pid !== undefined && !new Set(old).has(pid)) && new Set(pids)
  })
}

// What one of them says is heard by all, wherever they are; text and bytes.
async function assertAllHear (clients, text) {
  for (const speaker of [clients[0], clients[5], clients[11]]) {
    const heardBy = clients.map((socket) => heard(socket, 'said'))
    speaker.emit('say', text, Buffer.from(`bytes \xff ${text}`))
    for (const [said, data] of await Promise.all(heardBy)) {
      assert.equal(said, text)
      assert.ok(Buffer.isBuffer(data))
      assert.deepEqual(data, Buffer.from(`bytes \xff ${text}`))
    }
  }
}
