// `listen({ fd })` and `bind({ fd })` in a worker mean a descriptor of the host, as systemd's socket activation gives it.
'use strict'

const assert = require('node:assert/strict')
const dgram = require('node:dgram')
const { once } = require('node:events')
const fs = require('node:fs')
const net = require('node:net')
const path = require('node:path')

const { get } = require('./lib/client')
const { onlyOurs, test } = require('./lib/host')
const { isReference } = require('./lib/packages')
const { Program } = require('./lib/program')
const { heard, until } = require('./lib/wait')

const HOST = path.join(__dirname, 'fixtures', 'hosts', 'lends.js')

const told = (host, name) => host.messages.filter((message) => name in message).map((message) => message[name])

// A server's, or that of a socket for UDP, which newer Nodes keep behind a symbol.
function fdOf (object) {
  const state = Object.getOwnPropertySymbols(object).find(({ description }) => description === 'state symbol')
  return (object[state]?.handle ?? object._handle).fd
}

// A host with a TCP socket as its descriptor 4, one for UDP as 5 and a file as 6; and their ports.
async function serving (t, options, numbers = []) {
  const server = net.createServer().listen(0, '127.0.0.1')
  const socket = dgram.createSocket('udp4').bind(0, '127.0.0.1')
  await Promise.all([once(server, 'listening'), once(socket, 'listening')])
  const [port, datagrams] = [server.address().port, socket.address().port]
  const file = fs.openSync(__filename)
  const given = [fdOf(server), fdOf(socket), file]
  const host = new Program([HOST, ...numbers], { env: { OPTIONS: JSON.stringify(options) }, given })
  t.after(() => host.destroy())
  // From here on they are the host's alone.
  server.close()
  socket.close()
  fs.closeSync(file)
  await until('both to be there', () => told(host, 'ready').length >= 2 && told(host, 'datagrams').length >= 2)
  return { host, port, datagrams }
}

async function echoed (t, port) {
  const client = dgram.createSocket('udp4')
  t.after(() => client.close())
  const answer = heard(client, 'message')
  client.send('hello', port, '127.0.0.1')
  const [message] = await answer
  return `${message}`
}

for (const balance of ['round-robin', ...isReference ? [] : ['shared', 'kernel', 'sticky']]) {
  test.beside(`descriptors of the host under ${balance}, and through a reload`, async (t) => {
    const { host, port, datagrams } = await serving(t, isReference ? {} : { balance })
    assert.ok(host.workers.includes((await get(port)).pid))
    assert.match(await echoed(t, datagrams), /^hello \d+$/)
    const old = [...host.workers]
    host.send('reload')
    await host.told('reloaded')
    await until('an answer of a new worker', async () => !old.includes((await get(port)).pid))
  })
}

// A file, a number that nothing has, a socket for datagrams, and the channel of the host to its parent (EEXIST in Node).
test.beside('what is no socket of that kind is refused', async (t) => {
  const { host, port } = await serving(t, {}, ['6', '999', '5', ...isReference ? [] : ['3']])
  await until('all refusals', () => told(host, 'refused').length === (isReference ? 6 : 8))
  assert.deepEqual([...new Set(told(host, 'code'))], ['EINVAL'])
  assert.ok(host.workers.includes((await get(port)).pid), 'and the others serve')
})

// Every other number of the host: what the engine has open is nobody's to ask for.
test.beside('nothing that the engine has opened is handed out', onlyOurs, async (t) => {
  const numbers = Array.from({ length: 60 }, (_, index) => String(index + 7))
  const { host, port } = await serving(t, {}, numbers)
  await until('all refusals', () => told(host, 'refused').length === 2 * numbers.length)
  assert.ok(host.workers.includes((await get(port)).pid))
})
