// Releases that are switched by a symlink: which one a reload and a respawn start, and in which directory.
'use strict'

const assert = require('node:assert/strict')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')

const { active, test } = require('./lib/host')
const { get } = require('./lib/client')
const { underTest } = require('./lib/packages')
const { Program } = require('./lib/program')
const { called, until } = require('./lib/wait')

const BODY = `
  const answer = JSON.stringify({ release: require('path').basename(__dirname), cwd: process.cwd(), pid: process.pid })
  require('http').createServer((request, response) => response.end(answer)).listen(PORT, '127.0.0.1')`

// A directory of releases, and `current`, which leads to one of them.
class Home {
  path = fs.realpathSync(fs.mkdtempSync(path.join(os.tmpdir(), 'recluster-releases-')))
  current = path.join(this.path, 'current')
  port = 0

  // Deploys: the release is put there whole, and then the symlink is switched at once.
  deploy (release) {
    fs.mkdirSync(path.join(this.path, release))
    fs.writeFileSync(path.join(this.path, release, 'server.js'), BODY.replace('PORT', this.port))
    fs.symlinkSync(release, `${this.current}.new`)
    fs.renameSync(`${this.current}.new`, this.current)
  }

  remove (release) {
    fs.rmSync(path.join(this.path, release), { recursive: true })
  }
}

// A test with a home and a cluster of the server file at `current`. All releases listen on the port that the first one found.
const inHome = (name, body, begin = ({ home, make }) => make(path.join(home.current, 'server.js'))) => test.ours(name, async (host) => {
  const home = new Home()
  home.deploy('one')
  try {
    const made = begin({ ...host, home })
    made.on('listening', (worker, { port }) => { home.port = port })
    made.run()
    await until('the first release to serve', () => active(made).length > 0 && home.port > 0)
    assert.equal((await get(home.port)).release, 'one')
    await body({ ...host, home, made })
  } finally {
    process.chdir(os.tmpdir())
    fs.rmSync(home.path, { recursive: true })
  }
})

// Kills the worker that answers, and resolves with the answer of the one that takes its place.
async function killed (port) {
  const before = await get(port)
  process.kill(before.pid, 'SIGKILL')
  await until('the end of the worker', () => !fs.existsSync(`/proc/${before.pid}`))
  return get(port)
}

inHome('a reload follows the symlink to another release, and a respawn does not', async ({ home, made }) => {
  for (const release of ['two', 'three']) {
    const before = (await get(home.port)).release
    home.deploy(release)
    assert.equal((await killed(home.port)).release, before)
    await made.reload()
    assert.equal((await get(home.port)).release, release)
  }
})

inHome('a worker of a release that was removed is respawned from where the path leads, and that is logged', async ({ home, log, made }) => {
  home.deploy('two')
  home.remove('one')
  assert.equal((await killed(home.port)).release, 'two')
  const [gone, server] = ['one', 'two'].map((release) => path.join(home.path, release, 'server.js'))
  const told = log.map((args) => args.join(' ')).filter((line) => line.includes(' is gone'))
  assert.deepEqual(told, [`recluster: ${gone} is gone: workers are started from ${server} from now on`])
  home.deploy('three')
  const [error] = await called((done) => made.reload(done))
  assert.ifError(error)
  assert.equal((await get(home.port)).release, 'three')
})

inHome('the working directory goes with the server file where the shell entered it by the symlink', async ({ home, made }) => {
  const where = async () => (await get(home.port)).cwd
  assert.equal(await where(), path.join(home.path, 'one'))
  home.deploy('two')
  await made.reload()
  assert.equal(await where(), path.join(home.path, 'two'))
  home.deploy('three')
  home.remove('two')
  assert.equal((await killed(home.port)).release, 'three')
  assert.equal(await where(), path.join(home.path, 'three'))
}, ({ home, logger, recluster }) => {
  // As `cd current && node cluster.js` does.
  process.chdir(home.current)
  process.env.PWD = home.current
  return recluster('server.js', { workers: 1, respawn: 0.01, logger })
})

inHome('so does a server file beside the main module, whose path Node has without the symlink', async ({ home, made }) => {
  home.deploy('two')
  await made.reload()
  const { release, cwd } = await get(home.port)
  assert.deepEqual({ release, cwd }, { release: 'two', cwd: path.join(home.path, 'two') })
}, ({ home, logger, recluster }) => {
  process.chdir(home.current)
  process.env.PWD = home.current
  // What `path.join(__dirname, 'server.js')` is.
  return recluster(path.join(home.path, 'one', 'server.js'), { workers: 1, respawn: 0.01, logger })
})

inHome('a release that is not there fails the reload, and the old worker serves on', async ({ home, made }) => {
  const before = await get(home.port)
  home.deploy('two')
  home.remove('two')
  await assert.rejects(made.reload(), (error) => error.message.includes(home.current))
  assert.deepEqual(await get(home.port), before)
})

// As a service manager starts it: the symlink stands in the path of the program, and nowhere else.
test.ours('a server file that a program names by __dirname follows the symlink by which the program was started', async () => {
  const home = new Home()
  home.deploy('one')
  fs.writeFileSync(path.join(home.path, 'one', 'cluster.js'), `
    const made = require(${JSON.stringify(underTest)})(require('path').join(__dirname, 'server.js'), { workers: 1 })
    made.once('listening', (worker, { port }) => process.send({ port }))
    process.on('message', () => made.reload().then(() => process.send({ reloaded: true })))
    made.run()`)
  const program = new Program([path.join(home.current, 'cluster.js')], { cwd: '/', env: { PWD: '/' } })
  try {
    home.port = await program.told('port')
    assert.equal((await get(home.port)).release, 'one')
    home.deploy('two')
    program.send('reload')
    await program.told('reloaded')
    assert.equal((await get(home.port)).release, 'two')
  } finally {
    program.kill('SIGTERM')
    await program.ended()
    program.destroy()
    fs.rmSync(home.path, { recursive: true })
  }
})
