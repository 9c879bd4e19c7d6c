// The npm packages that the tests need, the package under test, and the reference.
'use strict'

const { execFileSync } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')

const here = path.join(__dirname, '..')
const cache = path.join(here, '..', '..', '.cache', 'npm')

// Installs the packages of ../package.json into .cache/npm, if that list has changed. Test files that run at the same time
// wait for each other.
function install () {
  const wanted = fs.readFileSync(path.join(here, 'package.json'), 'utf8')
  fs.mkdirSync(cache, { recursive: true })
  if (installed() === wanted) return
  const npm = 'npm install --no-audit --no-fund --no-package-lock --ignore-scripts --loglevel=error'
  // Whoever waited for the lock finds the work done: npm then changes nothing.
  const script = `cp "$1" package.json && ${npm} && cp package.json installed.json`
  execFileSync('flock', ['lock', 'sh', '-c', script, 'sh', path.join(here, 'package.json')], { cwd: cache, stdio: 'pipe' })
}

function installed () {
  try {
    return fs.readFileSync(path.join(cache, 'installed.json'), 'utf8')
  } catch {
    return null
  }
}

install()

const modules = path.join(fs.realpathSync(cache), 'node_modules')

/** The directory of one of these packages. */
const directoryOf = (name) => path.join(modules, name)

/** The directory of the reference. */
const reference = directoryOf('recluster')

/** The directory of the package under test: RECLUSTER_MODULE, or that of this checkout. */
const underTest = path.resolve(process.env.RECLUSTER_MODULE ?? path.join(here, '..'))

const versionOf = (directory) => JSON.parse(fs.readFileSync(path.join(directory, 'package.json'), 'utf8')).version

/** Whether that is the reference. */
const isReference = versionOf(underTest) === versionOf(reference)

module.exports = { directoryOf, isReference, modules, reference, underTest }
