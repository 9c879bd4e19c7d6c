// Applications: directories with a master script that says require('recluster'), as their authors wrote it.
'use strict'

const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')

const { modules, underTest } = require('./packages')
const { Program } = require('./program')

/**
 * Copies a directory of `fixtures/` to where require('recluster') gives that module, and other packages are found as well.
 * @returns {{ directory: string, run(file: string, options?: object): Program, remove(): void }}
 */
function install (name, module = underTest) {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'recluster-app-'))
  fs.cpSync(path.join(__dirname, '..', 'fixtures', name), directory, { recursive: true })
  fs.mkdirSync(path.join(directory, 'node_modules'))
  fs.symlinkSync(module, path.join(directory, 'node_modules', 'recluster'))
  return {
    directory,
    run: (file, { env, ...options } = {}) =>
      new Program([path.join(directory, file)], { cwd: directory, env: { NODE_PATH: modules, ...env }, ...options }),
    remove: () => fs.rmSync(directory, { recursive: true })
  }
}

module.exports = { install }
