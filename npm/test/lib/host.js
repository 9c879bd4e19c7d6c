// Tests whose bodies are master scripts: each runs in a Node process of its own, for `require('cluster')`, its counters and its
// listeners are shared by a whole process. A test file runs itself once more for each of its tests.
//
//     test('it answers', async ({ start }) => { … })          with the package under test, whichever that is
//     test.ours('it rolls back', async ({ start }) => { … })  not with the reference
//
// What a body is given is the class `Host` below. Behind its end its clusters are terminated, and then the process has to
// end by itself, and no worker may outlive it.
'use strict'

const cluster = require('node:cluster')
const path = require('node:path')

const { isReference, modules, underTest } = require('./packages')
const { Program } = require('./program')
const { Release } = require('./release')
const { DEADLINE, called, until } = require('./wait')

const WANTED = 'RECLUSTER_TEST_BODY'
const file = require.main.filename
const wanted = process.env[WANTED]
delete process.env[WANTED]

/**
 * `options`, which may be left out, are `skip`, `execArgv` and `env` for the process of the test, and `faulty` where its own
 * code is meant to fail.
 */
function test (name, options, body = options) {
  if (wanted === name) setImmediate(runBody, body)
  if (wanted === undefined) require('node:test')(name, { skip: options.skip ?? false }, () => runAlone(name, options))
}

/** A test whose body runs in the test file's own process, with `t` of node:test: it only looks at programs. */
test.beside = (name, options, body = options) => {
  if (wanted === undefined) require('node:test')(name, { skip: options.skip ?? false }, body)
}

/** An option: a test that the reference could not pass. */
const onlyOurs = { skip: isReference && 'the reference does not do this' }

test.ours = (name, options, body = options) => test(name, { ...options, skip: options.skip || onlyOurs.skip }, body)

/** An option: a test of the fallback, which needs version 1 beside it. */
const fallback = { env: { RECLUSTER_ENGINE: 'fallback', NODE_PATH: modules } }

/** The path of a server file in `fixtures/`. */
const fixture = (name) => path.join(__dirname, '..', 'fixtures', name)

/** What the body of a test is given. Its functions may be used unbound. */
class Host {
  #clusters = []
  #releases = []

  /** Node's module. */
  cluster = cluster

  /** The package under test, as it is. */
  recluster = (...args) => {
    const made = require(underTest)(...args)
    this.#clusters.push(made)
    return made
  }

  /** What the clusters have logged: the arguments of each call. */
  log = []
  logger = { log: (...args) => this.log.push(args) }

  /** A cluster that is not running yet. Respawns come at once, and an old worker has an hour: a slow machine changes nothing. */
  make = (file, options = {}) => this.recluster(path.isAbsolute(file) ? file : fixture(file), {
    workers: 1, respawn: 0.01, timeout: 3600, logger: this.logger, ...options
  })

  /** A cluster that has been started. */
  start = (file, options) => {
    const made = this.make(file, options)
    made.run()
    return made
  }

  /** A cluster all of whose workers are ready. */
  serve = async (file, options) => {
    const made = this.start(file, options)
    await until('all workers to be active', () => active(made).length === made.activeWorkers().length)
    return made
  }

  /** A server file that the test may change. It serves its first version. */
  release = () => {
    const release = new Release()
    release.put('serves', 1)
    this.#releases.push(release)
    return release
  }

  /** Ends all clusters. */
  end = async () => {
    await Promise.all(this.#clusters.map(terminate))
    this.#releases.forEach((release) => release.remove())
  }
}

/** The workers that hold a slot. */
const active = (made) => Array.from(made.activeWorkers()).filter(Boolean)

// The callback of the reference's terminate is not called where the last worker's exit is told before the end of its channel,
// or where somebody else's worker lives.
async function terminate (made) {
  if (!isReference) return called((done) => made.terminate(done))
  made.terminate()
  await until('the end of all workers', () => made.workers().length === 0)
}

// The process of one test.

async function runBody (body) {
  cluster.on('fork', (worker) => process.send({ forked: worker.process.pid }))
  try {
    const host = new Host()
    await body(host)
    await host.end()
    await new Promise((resolve) => process.send({ passed: true }, resolve))
    process.disconnect()
  } catch (error) {
    process.send({ failed: error?.stack ?? `${error}` }, () => process.exit(1))
  }
}

// The process of the test file.

async function runAlone (name, { execArgv = [], env = {}, faulty = false }) {
  const host = new Program([...execArgv, file], { env: { ...env, [WANTED]: name } })
  try {
    const exit = await ended(host)
    const { failed, passed } = Object.assign({}, ...host.messages)
    if (failed) throw new Error(failed)
    // An assertion in a listener.
    if (!faulty && host.text.includes('and the cluster goes on')) throw new Error('its own code failed')
    if (!passed || exit[0] !== 0) throw new Error(`the host ended with ${exit[1] ?? exit[0]}`)
    await host.abandoned()
  } catch (error) {
    throw new Error(`${error.message}\n${host.text}`)
  } finally {
    host.destroy()
  }
}

// A body may wait several times. Each worker that it forks shows that it does not hang.
async function ended (host) {
  let timer
  const hung = new Promise((resolve, reject) => {
    const hangs = () => reject(new Error('the test hangs, or something keeps its host alive behind the end of its clusters'))
    const wait = () => {
      clearTimeout(timer)
      timer = setTimeout(hangs, 3 * DEADLINE)
    }
    host.onMessage(wait)
    wait()
  })
  try {
    return await Promise.race([host.end, hung])
  } finally {
    clearTimeout(timer)
  }
}

module.exports = { active, fallback, fixture, onlyOurs, test }
