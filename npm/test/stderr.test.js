// Workers write to the stderr of the host itself, and the error of a reload has what they wrote all the same.
'use strict'

const assert = require('node:assert/strict')
const { execFile, spawn } = require('node:child_process')
const { once } = require('node:events')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')
const { promisify } = require('node:util')

const { onlyOurs, test } = require('./lib/host')
const { runs, written } = require('./lib/process')
const { called, until } = require('./lib/wait')

const HOST = path.join(__dirname, 'fixtures', 'hosts', 'writes.js')
const TERMINAL = path.join(__dirname, 'fixtures', 'in-a-terminal.py')

// A directory for files, which is removed behind the test.
function directory (t) {
  const made = fs.mkdtempSync(path.join(os.tmpdir(), 'recluster-stderr-'))
  t.after(() => fs.rmSync(made, { recursive: true }))
  return made
}

test.beside('in a terminal it is the terminal', async () => {
  const { stdout } = await promisify(execFile)('python3', [TERMINAL, process.execPath, HOST, 'looks'])
  assert.deepEqual(JSON.parse(stdout), { isTTY: true, columns: 132 })
})

test.beside('stdout and stderr keep their order in one file', async (t) => {
  const file = path.join(directory(t), 'output')
  const output = fs.openSync(file, 'w')
  const host = spawn(process.execPath, [HOST, 'takes turns'], { stdio: ['ignore', output, output] })
  fs.closeSync(output)
  assert.deepEqual(await once(host, 'exit'), [0, null])
  const expected = Array.from({ length: 1000 }, (_, number) => [`stdout ${number}`, `stderr ${number}`]).flat()
  assert.deepEqual(fs.readFileSync(file, 'utf8').trimEnd().split('\n'), expected)
})

test.beside('a worker waits for a reader that is slow, and loses nothing', async (t) => {
  const host = spawn(process.execPath, [HOST, 'floods'], { stdio: ['ignore', 'ignore', 'pipe', 'ipc'] })
  const ended = once(host, 'exit')
  const pids = [host.pid]
  t.after(() => pids.filter(runs).forEach((pid) => process.kill(pid, 'SIGKILL')))
  const [{ forked }] = await once(host, 'message')
  pids.push(forked)
  // Nobody reads yet: there is room for a part of it.
  await until('the worker to write', () => written(forked) > 50_000)
  let text = ''
  for await (const data of host.stderr.setEncoding('utf8')) text += data
  const numbers = text.trimEnd().split('\n').map((line) => Number(line.split(' ')[1]))
  assert.deepEqual([numbers.length, numbers.findIndex((number, index) => number !== index)], [100_000, -1])
  assert.deepEqual(await ended, [0, null])
})

// A cluster that serves, and reloads to other code or with other options, which fails; the error.
async function failing ({ logger, recluster }, file, options = {}) {
  fs.writeFileSync(file, 'setInterval(() => {}, 1000)')
  const said = { workers: 1, readyWhen: 'started', respawn: 0.01, attempts: 1, logger, ...options }
  const made = recluster(file, said)
  made.run()
  await until('it to serve', () => made.activeWorkers()[0])
  return async (code, more = {}) => {
    fs.writeFileSync(file, code)
    // It serves when it has lived for longer than any test takes.
    Object.assign(said, { bake: 3600 }, more)
    let error
    // On a busy machine the end of a process may be seen long behind that of its channel: then it counts as one that leaves by itself.
    do [error] = await called((done) => made.reload(done))
    while (error?.reason === 'asked to be replaced before it served')
    assert.equal(error?.code, 'ERR_RECLUSTER_ROLLED_BACK')
    return error
  }
}

// What the code says, and what is in the reason.
const THROWN = {
  'server.js': {
    "throw new Error('no database')": /status 1 .*: Error: no database \(at \S+server\.js:1:7\)$/,
    'const x = ;': /: SyntaxError: Unexpected token ';' \(at \S+server\.js:1\)$/,
    "Promise.reject(new TypeError('no luck'))": /: TypeError: no luck \(at \S+server\.js:1:16\)$/,
    'Promise.reject(7)': /: \[?UnhandledPromiseRejection: .* the reason "7"/,
    "throw 'mere words'": /: uncaught: mere words$/,
    "throw { code: 7, get stack () { throw new Error('never') } }": /status [17] before it served/,
    "require('nothing-of-this-name')": /: Error: Cannot find module 'nothing-of-this-name'/,
    "import('./nowhere.mjs')": /: Error \[ERR_MODULE_NOT_FOUND\]: Cannot find module .*nowhere\.mjs/,
    "new (require('worker_threads').Worker)(\"throw new RangeError('in a thread')\", { eval: true })": /: RangeError: in a thread/,
    "require('net').createServer().listen({ fd: 12345 })": /: Error: .*EINVAL/,
    "throw new Error('x'.repeat(1e6))": /: Error: x{400,}…$/
  },
  'server.mjs': {
    'const x = ;': /: SyntaxError: Unexpected token ';'/,
    "import './nowhere.mjs'": /: Error \[ERR_MODULE_NOT_FOUND\]: Cannot find module .*nowhere\.mjs/,
    "import { nothing } from 'node:fs'": /: SyntaxError: .* does not provide an export named 'nothing' \(at \S+server\.mjs:1\)$/,
    "await 1; throw new Error('later')": /: Error: later \(at \S+server\.mjs:1:16\)$/
  }
}

for (const [name, codes] of Object.entries(THROWN)) {
  test.ours(`the error of a reload says why the new code failed: ${name}`, async (host) => {
    const home = fs.mkdtempSync(path.join(os.tmpdir(), 'recluster-stderr-'))
    const reload = await failing(host, path.join(home, name))
    for (const [code, reason] of Object.entries(codes)) assert.match((await reload(code)).reason, reason, code)
    fs.rmSync(home, { recursive: true })
  })
}

const SAID = {
  "console.error('no config'); process.exit(3)": ['no config'],
  "process.stderr.write('line\\n'.repeat(1e5)); console.error('the last one'); process.exit(3)": [...Array(19).fill('line'), 'the last one'],
  "process.on('exit', () => console.error('at the end')); process.stderr.write('no end of line'); throw 7":
    ['no end of lineat the end', '7', '(Use `node --trace-uncaught ...` to show where the exception was thrown)'],
  "process.on('uncaughtException', ({ message }) => { console.error(`handled: ${message}`); process.exit(3) }); throw new Error('no')": ['handled: no'],
  "process.stderr.write(Buffer.from('bytes\\n')); process.stderr.write('776f7264730a', 'hex'); process.exit(3)": ['bytes', 'words'],
  "process.stderr.write('one\\n', () => process.exit(3))": ['one'],
  // Nothing comes behind what was told at once, not even a turn of the loop.
  "console.error('hangs'); process.kill(process.pid, 'SIGKILL')": ['hangs']
}

test.ours('the error of a reload has the last lines that the worker wrote', async (host) => {
  const home = fs.mkdtempSync(path.join(os.tmpdir(), 'recluster-stderr-'))
  const reload = await failing(host, path.join(home, 'server.js'))
  for (const [code, lines] of Object.entries(SAID)) assert.deepEqual((await reload(code)).stderr, lines, code)
  fs.rmSync(home, { recursive: true })
})

test.ours('it has them wherever stderr goes, and without the drain of ours', async (host) => {
  const home = fs.mkdtempSync(path.join(os.tmpdir(), 'recluster-stderr-'))
  for (const stdio of [undefined, 'pipe', ['ignore', 'ignore', 'ignore']]) {
    host.cluster.setupPrimary({ stdio })
    const reload = await failing(host, path.join(home, 'server.js'), { drainHttp: false })
    const { reason, stderr } = await reload("console.error('soon'); throw new Error('no database')")
    assert.match(reason, /: Error: no database \(at/)
    assert.equal(stderr[0], 'soon')
    await host.end()
  }
  fs.rmSync(home, { recursive: true })
})

test.ours('what node loads before the code may be what fails', async (host) => {
  const home = fs.mkdtempSync(path.join(os.tmpdir(), 'recluster-stderr-'))
  const file = path.join(home, 'server.js')
  const reload = await failing(host, file)
  const { reason } = await reload('setInterval(() => {}, 1000)', { execArgv: ['--require', path.join(home, 'hook.js')] })
  assert.match(reason, /: Error: Cannot find module '\S+hook\.js'/)
  fs.rmSync(home, { recursive: true })
})
