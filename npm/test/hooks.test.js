// What workers have of their host's node: its arguments, and hooks.
'use strict'

const assert = require('node:assert/strict')
const childProcess = require('node:child_process')

const { fixture, test } = require('./lib/host')
const { Program } = require('./lib/program')
const { underTest } = require('./lib/packages')
const { called, heard } = require('./lib/wait')

const COMPILER = fixture('compiles.js')
const started = { readyWhen: 'started' }

// The arguments of a worker's node, and those of its script.
async function argumentsOf (worker) {
  const told = heard(worker, 'message', (message) => 'execArgv' in message)
  worker.send({ do: 'tell' })
  const [{ argv, execArgv }] = await told
  return { argv, execArgv }
}

const hosts = { execArgv: ['--stack-size=900', '--require', COMPILER] }

test.ours('without execArgv a worker has that of its host, as one of cluster.fork() has it', hosts, async ({ cluster, serve }) => {
  const made = await serve('puppet.js', started)
  const ours = await argumentsOf(made.workers()[0])
  assert.deepEqual(ours, { argv: [], execArgv: hosts.execArgv })
  assert.deepEqual(cluster.settings.execArgv, hosts.execArgv)
  const nodes = cluster.fork()
  assert.deepEqual(await argumentsOf(nodes), ours)
  const gone = heard(nodes, 'exit')
  nodes.kill('SIGKILL')
  await gone
})

test('with execArgv, and be it none, a worker has that alone', hosts, async ({ serve }) => {
  for (const execArgv of [[], ['--no-warnings']]) {
    const made = await serve('puppet.js', { ...started, execArgv })
    const [worker] = made.workers()
    assert.deepEqual(await argumentsOf(worker), { argv: [], execArgv })
  }
})

const SCRIPT = `
  const made = require(${JSON.stringify(underTest)})(${JSON.stringify(fixture('puppet.js'))}, { workers: 1, readyWhen: 'started' })
  made.on('online', (worker) => worker.send({ do: 'tell' }))
  made.on('message', (worker, { execArgv }) => {
    console.log(execArgv.filter((arg) => arg === '--no-warnings' || arg.startsWith('-e') || arg === '--input-type').join())
    made.terminate(() => process.exit())
  })
  made.run()`

for (const words of [['-e', SCRIPT], ['--input-type', 'commonjs', '-e', SCRIPT], [`--eval=${SCRIPT}`]]) {
  test.beside(`a worker runs its server, not what the host was given by ${words.map((word) => word.split('=')[0]).filter((word) => word[0] === '-').join(' ')}`, async (t) => {
    const host = new Program(['--no-warnings', ...words])
    t.after(() => host.destroy())
    assert.deepEqual(await host.ended(), [0, null], host.text)
    assert.match(host.text, /^(--no-warnings)?\n$/)
  })
}

test.ours('what compiles the server in the host is told not to reach workers, once, and what does', async ({ log, logger, recluster }) => {
  require(COMPILER)
  const options = { ...started, workers: 1, respawn: 0.01, logger }
  const made = recluster(fixture('server.loud'), options)
  made.run()
  await heard(made, 'exit')
  const [first, ...others] = log.map(([line]) => line).filter((line) => /does not reach/.test(line))
  assert.match(first, /^recluster: what compiles \.loud files in this process does not reach workers: say `execArgv: \['--require', '…'\]`$/)
  options.execArgv = ['--require', COMPILER]
  const said = heard(made, 'message')
  await called((done) => made.reload(done))
  assert.deepEqual((await said)[1], { loud: true })
  assert.deepEqual(others, [])
})

test.ours('the package that has registered a compiler is named', ({ log, start }) => {
  require.extensions['.loud'] = () => {}
  require.cache['/srv/node_modules/@team/loud-script/lib/register.js'] = {}
  start('server.loud', started)
  assert.match(log[0][0], /'@team\/loud-script\/register'/)
})

const PATCHES = {
  'child_process.fork': (nodes) => { childProcess.fork = (...args) => nodes.fork(...args) },
  'ChildProcess.prototype.spawn': (nodes) => {
    childProcess.ChildProcess.prototype.spawn = function (...args) { return nodes.spawn.apply(this, args) }
  },
  'cluster.fork': (nodes, cluster) => { cluster.fork = (...args) => nodes.clusterFork.apply(cluster, args) }
}

for (const [name, patch] of Object.entries(PATCHES)) {
  test.ours(`what is put in the place of ${name} is told not to reach workers, once`, async ({ cluster, log, serve }) => {
    require(underTest)
    patch({ fork: childProcess.fork, spawn: childProcess.ChildProcess.prototype.spawn, clusterFork: cluster.fork }, cluster)
    const made = await serve('puppet.js', started)
    await called((done) => made.reload(done))
    await serve('puppet.js', { ...started, execArgv: ['--require', COMPILER] })
    assert.deepEqual(log, [[`recluster: what was put in the place of ${name} does not reach workers: say \`execArgv: ['--require', '…']\``]])
  })
}

test.ours('a host that patches nothing hears nothing', async ({ log, serve }) => {
  await serve('puppet.js', started)
  assert.deepEqual(log, [])
})
