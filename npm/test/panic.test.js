// A panic in the engine: the host hears of it as it hears of the errors of other emitters, when no worker is left.
'use strict'

const assert = require('node:assert/strict')
const { spawnSync } = require('node:child_process')
const { test } = require('node:test')

const [NATIVE, PACKAGE, SERVER] = ['../lib/native', '..', __filename].map((name) => JSON.stringify(require.resolve(name)))

// Nobody can make the engine panic from here: this stands in for it, and tells what it would.
const STAND_IN = `
  const part = { event: 'panicked', part: 'the data plane', reason: 'of a test', place: 'here.rs:1:1', ends: ENDS }
  const start = (plan, wake) => {
    const waiting = ENDS ? [part, { event: 'over' }] : [part]
    setImmediate(wake)
    let isFirst = true
    return {
      exposed: () => null,
      settle () {},
      take () {
        const notes = isFirst ? [] : waiting.splice(0)
        isFirst = false
        return { notes: JSON.stringify(notes), values: [] }
      }
    }
  }
  require.cache[${NATIVE}] = { loaded: true, exports: { start, raiseIds () {} } }
  const cluster = require(${PACKAGE})(${SERVER}, { logger: { log: (line) => console.log(line) } })
`

// A host that does this and runs such a cluster.
function host (ends, code) {
  const program = `const ENDS = ${ends}; ${STAND_IN}; ${code}; cluster.run()`
  const { status, stdout, stderr } = spawnSync(process.execPath, ['-e', program], { encoding: 'utf8', timeout: 60_000 })
  return { status, stdout, stderr }
}

const SAID = 'recluster: the data plane has panicked, which is a fault of recluster, and the cluster ends: of a test (at here.rs:1:1)'

test('whoever listens to errors hears it, and the host goes on', () => {
  const heard = host(true, "cluster.on('error', ({ code, message }) => console.log(code, message))")
  assert.deepEqual(heard, { status: 0, stdout: `${SAID}\nERR_RECLUSTER_PANICKED ${SAID}\n`, stderr: '' })
})

test('a host that does not listen ends by it, as by any error that nobody hears', () => {
  const { status, stdout, stderr } = host(true, '')
  assert.equal(status, 1, stderr)
  assert.equal(stdout, `${SAID}\n`)
  assert.match(stderr, /ERR_RECLUSTER_PANICKED/)
})

test('a part that ends alone is no error of the host', () => {
  const { status, stdout } = host(false, `
    console.log = (line) => process.stdout.write(line, () => process.exit(7))
    cluster.on('error', () => process.exit(8))`)
  assert.equal(status, 7)
  assert.match(stdout, /nothing else ends: of a test/)
})
