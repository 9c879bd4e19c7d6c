// Files whose change is a reload: `watch`, while a server is written, and `reloadOn`, where it is deployed.
'use strict'

const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')

const { active, fallback, test } = require('./lib/host')
const { get } = require('./lib/client')
const { heard, until } = require('./lib/wait')

/** What the habits of a development cluster are left to. */
const unsaid = { workers: undefined, timeout: undefined }
const lines = (log) => log.map(([line]) => line)
const says = (log, wanted) => until(`the line ${wanted}`, () => lines(log).some((line) => wanted.test(line)))

/** A cluster of a release that serves, and the port where all its versions do. */
async function watched ({ make, release }, options) {
  const code = release()
  fs.writeFileSync(path.join(path.dirname(code.file), 'package.json'), '{}')
  const made = make(code.file, options(path.dirname(code.file)))
  const listens = heard(made, 'listening')
  made.run()
  const [, { port }] = await listens
  await until('a worker to be active', () => active(made).length > 0)
  return { code, made, port }
}

test.ours('watch: a file that is saved is served by one worker, and code that does not start is rolled back', async (host) => {
  const { code, made, port } = await watched(host, () => ({ ...unsaid, watch: true }))
  assert.equal(active(made).length, 1)
  const [old] = made.workers()
  code.put('serves', 2)
  // A request that the first worker has is cut off: it has no time.
  await until('the second version', async () => (await get(port).catch(() => ({}))).version === 2)
  await says(host.log, /^recluster: \S*server\.js has changed: reload$/)
  await until('the end of the first worker, which has no time', () => old.isDead())
  code.put('throws', 3)
  await says(host.log, /^recluster: reload rolled back, the old workers serve on: .*version 3 is broken/)
  assert.equal((await get(port)).version, 2)
  code.put('serves', 4)
  await until('the fourth version', async () => (await get(port).catch(() => ({}))).version === 4)
})

test.ours('watch: what ends is started again by the next change', async (host) => {
  const { code, made, port } = await watched(host, (directory) => ({ ...unsaid, watch: [directory] }))
  made.workers()[0].process.kill('SIGKILL')
  await says(host.log, /^recluster: worker 1 .* is started again by the next change$/)
  assert.equal(active(made).length, 0)
  code.put('serves', 2)
  await until('the second version', async () => (await get(port).catch(() => ({}))).version === 2)
})

test.ours('reloadOn: a file is replaced, and all workers are, as ever', async (host) => {
  const { code, made, port } = await watched(host, (directory) => ({ workers: 2, reloadOn: path.join(directory, 'certificate') }))
  code.put('serves', 2)
  await until('two workers', () => active(made).length === 2)
  fs.writeFileSync(path.join(path.dirname(code.file), 'certificate'), 'new')
  await until('the second version', async () => (await get(port)).version === 2)
  await says(host.log, /certificate has changed: reload$/)
  await until('the end of the reload', async () => (await made.status()).generation === 2)
})

test.ours('watch and reloadOn: a reload changes neither what is watched nor what follows from it', async (host) => {
  const options = { ...unsaid, workers: 1, watch: undefined, timeout: 3600, logger: host.logger }
  const code = host.release()
  const made = host.recluster(code.file, options)
  made.run()
  await until('a worker to be active', () => active(made).length > 0)
  options.watch = path.dirname(code.file)
  await made.reload()
  const [worker] = active(made)
  worker.process.kill('SIGKILL')
  await until('another worker, without a change', () => active(made).length > 0 && active(made)[0] !== worker)
})

test.ours('watch and reloadOn: what is no path is refused', async ({ make }) => {
  const refused = (options) => () => make('puppet.js', options)
  assert.throws(refused({ watch: 7 }), /watch must be true, a path or an array of paths, not 7/)
  assert.throws(refused({ watch: ['src', ''] }), /watch must be true, a path or an array of paths/)
  assert.throws(refused({ reloadOn: true }), /reloadOn must be a path or an array of paths, not true/)
})

test.ours('watch: the fallback has none, and none of what follows from it', fallback, async ({ log, make, serve }) => {
  assert.throws(() => make('puppet.js', { watch: 7 }), /watch must be true, a path or an array of paths, not 7/)
  const made = await serve('puppet.js', { args: ['listen'], workers: 2, watch: true })
  assert.equal(made.workers().length, 2)
  assert.ok(lines(log).some((line) => /the fallback has no watch/.test(line)), lines(log).join('\n'))
})
