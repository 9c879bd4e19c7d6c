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
}
