// The package as people install it: packed, by each package manager, in a bundle, and where its engine is missing.
'use strict'

const assert = require('node:assert/strict')
const { execFile } = require('node:child_process')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')
const { after, before } = require('node:test')
const { promisify } = require('node:util')

const { fixture, onlyOurs, test } = require('./lib/host')
const { directoryOf, isReference, modules } = require('./lib/packages')
const { Program, output } = require('./lib/program')
const { Registry } = require('./lib/registry')

const PACKAGE = path.join(__dirname, '..')
const PLATFORM = 'linux-x64-gnu'
const ADDON = `recluster.${PLATFORM}.node`
const { version } = require('../package.json')

// What a user's machine has: no addon by name, no other engine.
const PLAIN = { RECLUSTER_ADDON: '', RECLUSTER_ENGINE: '', NODE_TEST_CONTEXT: '' }

const addon = () => process.env.RECLUSTER_ADDON || path.join(PACKAGE, ADDON)

/** The command of the same build. */
const command = () => process.env.RECLUSTER_COMMAND || path.join(PACKAGE, 'recluster-command')

/** Where npm is, which need not be beside the node under test. */
const npmDirectory = () => process.env.PATH.split(':').find((directory) => fs.existsSync(path.join(directory, 'npm')))

// Node, its npm and a shell; no compiler.
const env = { ...process.env, ...PLAIN, PATH: `${path.dirname(process.execPath)}:${npmDirectory()}:/usr/bin:/bin` }

async function run (cwd, program, ...args) {
  try {
    const { stdout } = await promisify(execFile)(program, args, { cwd, env, encoding: 'utf8', maxBuffer: 64 * 1024 * 1024 })
    return stdout
  } catch (error) {
    // Some say on stdout what is wrong.
    error.message += error.stdout
    throw error
  }
}

function directory (t) {
  const made = fs.mkdtempSync(path.join(os.tmpdir(), 'recluster-install-'))
  t.after(() => fs.rmSync(made, { recursive: true }))
  return made
}

const PLATFORMS = ['linux-arm64-gnu', 'linux-arm64-musl', 'linux-x64-gnu', 'linux-x64-musl']

/** A copy without what a debug build has for debuggers. */
async function stripped (file, into) {
  const copy = path.join(into, path.basename(file))
  await run(into, 'strip', '--strip-debug', '-o', copy, file)
  return copy
}

// Publishes the package, and those of all platforms, as scripts/npm-pack lays them out. The other platforms have an empty file for
// an engine: nobody installs them here, but package managers look at what they say of themselves.
async function publish (into) {
  const registry = new Registry(into)
  const { files } = require('../package.json')
  // What scripts/pages makes is made for a release.
  const parts = files.filter((part) => !['completions', 'man'].includes(part))
  for (const part of ['package.json', 'README.md', 'index.js', ...parts]) {
    fs.cpSync(path.join(PACKAGE, part), path.join(into, 'main', part), { recursive: true })
  }
  fs.writeFileSync(path.join(into, 'empty'), '')
  const engine = [await stripped(addon(), into), await stripped(command(), into)]
  for (const platform of PLATFORMS) {
    const parts = platform === PLATFORM ? engine : ['empty', 'empty']
    await run(into, process.execPath, path.join(PACKAGE, 'release', 'platform-package'), platform, platform, ...parts)
  }
  for (const part of ['main', ...PLATFORMS]) {
    const packed = path.join(into, part)
    registry.publish(packed, path.join(packed, (await run(packed, 'npm', 'pack', '--silent')).trim()))
  }
  return registry
}

let published
before(async () => {
  if (isReference) return
  const into = fs.mkdtempSync(path.join(os.tmpdir(), 'recluster-publish-'))
  published = await publish(into)
  fs.rmSync(into, { recursive: true })
  await published.listen()
})
after(() => published?.close())

// A project that depends on the package.
function project (t) {
  const made = directory(t)
  fs.writeFileSync(path.join(made, 'package.json'), JSON.stringify({ private: true, dependencies: { recluster: version } }))
  fs.writeFileSync(path.join(made, '.npmrc'), `registry=${published.url}/\n`)
  fs.writeFileSync(path.join(made, '.yarnrc'), `registry "${published.url}/"\n`)
  fs.writeFileSync(path.join(made, 'cluster.js'), RELOADS)
  return made
}

const RELOADS = `
  const made = require('recluster')(process.argv.pop(), { workers: 1, readyWhen: 'started', args: ['stay'] })
  made.run()
  made.once('ready', () => made.reload(() => made.terminate(() => console.log('reloaded and gone'))))`

const reloads = (cwd, more = {}) => output(['cluster.js', fixture('puppet.js')], { cwd, env: { ...PLAIN, ...more } })

const MANAGERS = {
  npm: ['npm', 'install', '--no-audit', '--no-fund'],
  pnpm: ['npx', '--yes', 'pnpm@9.15.9', 'install'],
  'yarn 1': ['npx', '--yes', 'yarn@1.22.22', 'install', '--no-lockfile']
}

for (const [name, install] of Object.entries(MANAGERS)) {
  test.beside(`installed by ${name}, it runs without a toolchain, and so does its command`, onlyOurs, async (t) => {
    const cwd = project(t)
    await run(cwd, ...install)
    assert.match(await reloads(cwd), /^reloaded and gone$/m)
    assert.equal((await run(cwd, path.join('node_modules', '.bin', 'recluster'), '--version')).trim(), `recluster ${version}`)
  })
}

// It keeps packages in archives, and tells node where they are.
test.beside('installed by yarn 4 (PnP), it runs, and so does its command', onlyOurs, async (t) => {
  const cwd = project(t)
  const settings = {
    npmRegistryServer: published.url,
    unsafeHttpWhitelist: ['127.0.0.1'],
    enableTelemetry: false,
    enableImmutableInstalls: false,
    enableGlobalCache: false,
    // It remembers what a registry said, with the port of an earlier run.
    globalFolder: './.yarn/global'
  }
  fs.writeFileSync(path.join(cwd, '.yarnrc.yml'), JSON.stringify(settings))
  const yarn = (...args) => run(cwd, 'npx', '--yes', '@yarnpkg/cli-dist@4.9.4', ...args)
  await yarn('install')
  assert.ok(fs.existsSync(path.join(cwd, '.pnp.cjs')))
  assert.match(await yarn('node', 'cluster.js', fixture('puppet.js')), /^reloaded and gone$/m)
  assert.equal((await yarn('recluster', '--version')).trim(), `recluster ${version}`)
})

test.beside('without its engine, where one is built, the cause and the cure are said', onlyOurs, async (t) => {
  const cwd = project(t)
  await run(cwd, 'npm', 'install', '--no-audit', '--no-fund', '--omit=optional')
  const script = "try { require('recluster') } catch (error) { console.log(error.message) }"
  const text = await output(['-e', script], { cwd, env: PLAIN })
  const wanted = `@recluster/${PLATFORM}`
  assert.match(text, new RegExp(`^recluster: the engine is not installed: the package ${wanted} is missing\\. .*--omit=optional.*$`, 'm'))
  await assert.rejects(run(cwd, path.join('node_modules', '.bin', 'recluster'), '--version'), (error) => error.stderr.includes(wanted))
  // There is the fallback, for whoever wants it.
  assert.match(await reloads(cwd, { RECLUSTER_ENGINE: 'fallback' }), /this is the fallback[^]*^reloaded and gone$/m)
})

test.beside('on a system for which no engine is built it is the fallback', onlyOurs, async () => {
  const script = `
    Object.defineProperty(process, 'platform', { value: 'darwin' })
    const made = require(process.argv[1])(process.argv[2], { workers: 1, readyWhen: 'started', args: ['stay'] })
    made.run()
    made.once('ready', () => made.terminate(() => console.log('gone')))`
  const text = await output(['-e', script, PACKAGE, fixture('puppet.js')], { env: { ...PLAIN, NODE_PATH: modules } })
  assert.match(text, /^recluster: this is the fallback on Node's own cluster \(darwin-[^]*^gone$/m)
})

for (const runtime of ['bun', 'deno']) {
  test.beside(`run by ${runtime}, it says what to do`, onlyOurs, async () => {
    const script = `
      Object.defineProperty(process.versions, '${runtime}', { value: '1.0.0' })
      try { require(process.argv[1]) } catch (error) { console.log(error.message) }`
    const text = await output(['-e', script, PACKAGE], { env: PLAIN })
    assert.match(text, new RegExp(`^recluster: ${runtime} has no complete cluster module: run this file with node, .*--node ${runtime} FILE\n$`))
  })
}

test.beside('an engine that is none is refused', onlyOurs, async () => {
  const script = 'try { require(process.argv[1]) } catch (error) { console.log(error.message) }'
  const text = await output(['-e', script, PACKAGE], { env: { ...PLAIN, RECLUSTER_ENGINE: 'rust' } })
  assert.equal(text, "recluster: RECLUSTER_ENGINE must be 'native' or 'fallback', not 'rust'\n")
})

test.beside('a bundle says what is missing, and runs with the addon beside it', onlyOurs, async (t) => {
  const cwd = directory(t)
  fs.mkdirSync(path.join(cwd, 'node_modules'))
  fs.symlinkSync(PACKAGE, path.join(cwd, 'node_modules', 'recluster'))
  fs.writeFileSync(path.join(cwd, 'source.js'), RELOADS)
  const esbuild = require(directoryOf('esbuild'))
  await esbuild.build({
    absWorkingDir: cwd,
    entryPoints: ['source.js'],
    bundle: true,
    platform: 'node',
    outfile: 'bundle.js',
    external: [`@recluster/${PLATFORM}`],
    nodePaths: [modules],
    logLevel: 'error'
  })
  const bundle = [path.join(cwd, 'bundle.js'), fixture('puppet.js')]
  const failed = new Program(bundle, { env: PLAIN })
  await failed.ended()
  assert.match(failed.text, new RegExp(`recluster: the engine is not beside the bundle .*--external:recluster.*or copy ${ADDON.replaceAll('.', '\\.')}`))
  fs.copyFileSync(addon(), path.join(cwd, ADDON))
  assert.match(await output(bundle, { env: PLAIN }), /^reloaded and gone$/m)
})

test.beside('behind node, as yarn runs it from an archive, the command gets every signal, and its status is passed on', onlyOurs, async (t) => {
  const cwd = directory(t)
  const [engine, ours] = [path.join('@recluster', PLATFORM), 'recluster'].map((name) => path.join(cwd, 'node_modules', name))
  fs.mkdirSync(path.join(engine, 'bin'), { recursive: true })
  fs.writeFileSync(path.join(engine, 'package.json'), '{}')
  for (const part of ['bin', 'lib']) fs.cpSync(path.join(PACKAGE, part), path.join(ours, part), { recursive: true })
  const signals = ['HUP', 'INT', 'QUIT', 'USR1', 'USR2', 'TTIN', 'TTOU']
  const traps = signals.map((signal) => `trap 'echo got ${signal}' ${signal}`)
  const script = ['#!/bin/sh', ...traps, 'trap "exit 7" TERM', 'echo "ready $*"', 'while :; do sleep 1 & wait; done']
  fs.writeFileSync(path.join(engine, 'bin', 'recluster'), script.join('\n'), { mode: 0o755 })

  const program = new Program([path.join(ours, 'bin', 'recluster'), 'server.js', '-w', '2'], { cwd, env: PLAIN })
  t.after(() => program.destroy())
  await program.wrote('ready server.js -w 2\n')
  for (const signal of signals) {
    program.kill(`SIG${signal}`)
    await program.wrote(`got ${signal}\n`)
  }
  program.kill('SIGTERM')
  assert.deepEqual(await program.ended(), [7, null], program.text)
})
