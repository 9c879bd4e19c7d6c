// The event loop of the host, and what else is the host's own: its end, its signals, its children.
'use strict'

const assert = require('node:assert/strict')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')

const { begin, get } = require('./lib/client')
const { onlyOurs, test } = require('./lib/host')
const { runs } = require('./lib/process')
const { Program } = require('./lib/program')
const { heard, heardOften, until } = require('./lib/wait')

const HOST = path.join(__dirname, 'fixtures', 'hosts', 'serves.js')

// A host that serves, and its port.
async function serving (t, ...words) {
  const host = new Program([HOST, ...words])
  t.after(() => host.destroy())
  const listen = () => host.messages.filter(({ listening }) => listening)
  await until('both to listen', () => listen().length === 2)
  return { host, port: listen()[0].listening }
}

// Blocks the host's event loop, until what this gives is called.
function block (t, host, deed) {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'recluster-'))
  t.after(() => fs.rmSync(directory, { recursive: true }))
  const file = path.join(directory, 'wakes')
  host.send({ do: deed, file })
  return async () => {
    fs.writeFileSync(file, '')
    await host.told('awake')
  }
}

const has = (host, name) => host.messages.some((message) => name in message)

test.beside('a host that blocks its loop: connections are served', onlyOurs, async (t) => {
  const { host, port } = await serving(t)
  const wake = block(t, host, 'block')
  const pids = await host.told('blocks')
  const answered = new Set()
  for (let request = 0; request < 50; request++) answered.add((await get(port)).pid)
  assert.deepEqual([...answered].sort(), [...pids].sort(), 'by both')
  assert.ok(!has(host, 'awake'), 'while it blocked')
  await wake()
})

test.beside('a host that blocks its loop: a worker that crashes is respawned', onlyOurs, async (t) => {
  const { host, port } = await serving(t)
  const wake = block(t, host, 'block')
  const pids = await host.told('blocks')
  await get(port, '/exit')
  await until('an answer of a new worker', async () => !pids.includes((await get(port)).pid))
  assert.ok(!has(host, 'awake'), 'while it blocked')
  await wake()
  await until('its host to be told', () => has(host, 'exited'))
  assert.ok(has(host, 'awake'))
})

test.beside('a host that blocks its loop: a reload goes on, and old workers are killed in time', onlyOurs, async (t) => {
  const { host, port } = await serving(t, 'stay')
  const wake = block(t, host, 'reload and block')
  const old = await host.told('blocks')
  await until('an answer of a new worker', async () => !old.includes((await get(port)).pid))
  await until('the end of the old ones', () => !old.some(runs))
  assert.ok(!has(host, 'awake'), 'while it blocked')
  await wake()
  await host.told('reloaded')
})

for (const [when, deed] of [['at once', 'reload and exit'], ['when a worker has come up', 'exit at online']]) {
  for (const words of [[], ['stay']]) {
    test.beside(`process.exit() in the middle of a reload, ${when}, leaves nobody behind${words.map((word) => ` (${word})`)}`, async (t) => {
      const { host } = await serving(t, ...words)
      host.send({ do: deed })
      assert.deepEqual(await host.ended(), [7, null])
      await host.abandoned()
    })
  }
}

for (const [how, end] of [['ends', (host) => host.send({ do: 'reload and exit' })], ['is killed', (host) => host.kill('SIGKILL')]]) {
  test.beside(`a host that ${how}: its workers answer what they have`, onlyOurs, async (t) => {
    const { host, port } = await serving(t)
    const requests = [await begin(port), await begin(port)]
    end(host)
    await host.ended()
    const answers = await Promise.all(requests.map((request) => request.finish()))
    assert.ok(answers.every(({ pid }) => host.workers.includes(pid)))
    await host.abandoned()
  })
}

test.beside('a host that is killed leaves nobody behind', async (t) => {
  const { host } = await serving(t, 'stay')
  host.kill('SIGKILL')
  await host.ended()
  await host.abandoned()
})

test.beside('a host is alive while its workers are, and then ends', async (t) => {
  const { host, port } = await serving(t)
  host.send({ do: 'stop' })
  await host.told('stopped')
  for (let request = 0; request < 20; request++) await get(port)
  assert.ok(runs(host.pid))
  // One of two ends.
  await get(port, '/exit')
  await host.told('exited')
  for (let request = 0; request < 20; request++) await get(port)
  assert.ok(runs(host.pid))
  await get(port, '/exit')
  assert.deepEqual(await host.ended(), [0, null])
})

test.beside('workers that are unreferenced do not keep it alive', async (t) => {
  // Without a server: in the reference the listening sockets are the host's, and keep it alive as well.
  const host = new Program([HOST, 'stay'], { env: { WITHOUT_SERVER: 'yes' } })
  t.after(() => host.destroy())
  await until('both to be ready', () => host.messages.filter(({ ready }) => ready).length === 2)
  host.send({ do: 'forget' })
  await host.told('forgotten')
  assert.deepEqual(await host.ended(), [0, null])
  await host.abandoned()
})

test.beside('it installs no signal handler', onlyOurs, async (t) => {
  const { host } = await serving(t)
  const { after, before } = host.messages.find(({ before }) => before)
  assert.equal(after, before)
})

test.beside('children that are none of the cluster\'s are the host\'s to wait for', async (t) => {
  const { host } = await serving(t)
  host.send({ do: 'spawn', count: 20 })
  await until('all children\'s end', () => host.messages.filter(({ child }) => child !== undefined).length === 20)
  for (const { child, status } of host.messages.filter(({ child }) => child !== undefined)) assert.equal(child, status)
  await host.told('reloaded')
})

test('a listener that throws is an uncaught exception, and the others hear what they have to', async ({ make }) => {
  const uncaught = heardOften(process, 'uncaughtException', 2)
  const made = make('puppet.js', { args: ['listen'], workers: 2 })
  made.on('online', () => { throw new Error('of a listener') })
  const all = heardOften(made, 'listening', 2)
  made.run()
  for (const [error] of await uncaught) assert.equal(error.message, 'of a listener')
  assert.equal((await all).length, 2)
  const gone = heard(made, 'exit')
  made.workers()[0].process.kill('SIGKILL')
  await gone
})
