// The command line of `run`, and one section of the page after the other.

import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { parseArgs } from 'node:util'

import { read } from './page.mjs'
import { trial } from './trial.mjs'

const HERE = import.meta.dirname
const ROOT = path.resolve(HERE, '../..')

const parse = () => {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { recluster: { type: 'string' }, scratch: { type: 'string' } },
  })
  const recluster = path.resolve(values.recluster ?? path.join(ROOT, 'target/debug/recluster'))
  fs.accessSync(recluster, fs.constants.X_OK)
  return { recluster, scratch: values.scratch && path.resolve(values.scratch), names: positionals }
}

const chosen = (names) => {
  const sections = read(path.join(ROOT, 'docs/frameworks.md'))
  const unknown = names.find((name) => !sections.some((section) => section.app === name))
  if (unknown) throw new Error(`the page has no section with the application ${unknown}`)
  return sections.filter((section) => names.length === 0 || names.includes(section.app))
}

// A fresh copy of the application, with its packages and what its commands of preparation build.
const prepare = (section, directory, env) => {
  const run = (command) => {
    try {
      execFileSync('bash', ['-c', command], { cwd: directory, env, stdio: 'pipe' })
    } catch (error) {
      throw new Error(`\`${command}\` failed:\n${error.stdout}${error.stderr}`)
    }
  }
  fs.cpSync(path.join(HERE, 'apps', section.app), directory, { recursive: true })
  run('npm install --no-audit --no-fund --no-package-lock')
  section.preparations.forEach(run)
}

// Nothing here speaks with another machine.
const QUIET = {
  NEXT_TELEMETRY_DISABLED: '1',
  NUXT_TELEMETRY_DISABLED: '1',
  ASTRO_TELEMETRY_DISABLED: '1',
  NEW_RELIC_HOST: '127.0.0.1',
  NEW_RELIC_LICENSE_KEY: '0'.repeat(40),
  OTEL_NODE_RESOURCE_DETECTORS: 'env,host,os,process',
}

const environment = (recluster, scratch) => ({
  ...process.env,
  PATH: `${path.dirname(recluster)}:${process.env.PATH}`,
  XDG_RUNTIME_DIR: scratch,
  WEB_CONCURRENCY: '2',
  ...QUIET,
})

const one = async (section, scratch, env) => {
  const directory = path.join(scratch, section.app)
  try {
    prepare(section, directory, env)
    for (const command of section.starts) {
      const { asked, reloads, seconds } = await trial(command, directory, env)
      console.log(`${section.app}: 0 of ${asked} lost in ${reloads} reloads, ${seconds} s: ${command}`)
    }
    return true
  } catch (error) {
    console.error(`${section.app}: ${error.message}`)
    return false
  }
}

const main = async () => {
  const { recluster, scratch, names } = parse()
  const directory = scratch ?? fs.mkdtempSync(path.join(os.tmpdir(), 'recluster-frameworks-'))
  const sections = chosen(names)
  const env = environment(recluster, directory)
  let failed = 0
  for (const section of sections) {
    if (!(await one(section, directory, env))) failed += 1
    if (!scratch) fs.rmSync(path.join(directory, section.app), { recursive: true, force: true })
  }
  if (!scratch) fs.rmSync(directory, { recursive: true, force: true })
  console.log(`${sections.length - failed} of ${sections.length} sections passed`)
  return failed === 0 ? 0 : 1
}

process.exitCode = await main()
