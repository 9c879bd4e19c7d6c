// The package as an ES module, and its types.
'use strict'

const assert = require('node:assert/strict')
const { execFileSync } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')

const { install } = require('./lib/app')
const { onlyOurs, test } = require('./lib/host')
const { directoryOf, modules } = require('./lib/packages')

function begin (t) {
  const app = install('modules')
  t.after(app.remove)
  const run = (file) => {
    const program = app.run(file)
    t.after(() => program.destroy())
    return program
  }
  return { ...app, run }
}

test.beside('import recluster from \'recluster\'', async (t) => {
  const program = begin(t).run('master.mjs')
  assert.ok(await program.told('listening') > 0)
  assert.equal(await program.told('reloaded'), true)
  assert.deepEqual(await program.ended(), [0, null], program.text)
  await program.abandoned()
})

test.beside('import and require give the same function', onlyOurs, async (t) => {
  const program = begin(t).run('both.mjs')
  assert.equal(await program.told('same'), true)
  assert.deepEqual(program.messages, [{ same: true, type: 'function', package: 'recluster' }])
})

// The declarations themselves are checked once: that takes a while.
const SETTINGS = [
  { module: 'nodenext', moduleResolution: 'nodenext' },
  { module: 'commonjs', moduleResolution: 'node10', esModuleInterop: true, skipLibCheck: true }
]

for (const settings of SETTINGS) {
  test.beside(`TypeScript, module ${settings.module}`, onlyOurs, (t) => {
    const { directory } = begin(t)
    const compilerOptions = {
      ...settings, noEmit: true, strict: true, noUnusedLocals: true, target: 'es2022', types: ['node'], typeRoots: [path.join(modules, '@types')]
    }
    fs.writeFileSync(path.join(directory, 'tsconfig.json'), JSON.stringify({ compilerOptions, include: ['*.ts', '*.cts'] }))
    check(directory)
  })
}

function check (directory) {
  const tsc = path.join(directoryOf('typescript'), 'bin', 'tsc')
  try {
    execFileSync(process.execPath, [tsc, '--project', directory], { stdio: 'pipe', encoding: 'utf8' })
  } catch (error) {
    assert.fail(error.stdout)
  }
}
