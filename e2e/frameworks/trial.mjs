// One command of the page: a cluster that is started, reloaded under load, and stopped.

import { execFile, spawn } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { promisify } from 'node:util'

import { DEADLINE, Load } from './load.mjs'

const RELOADS = 3

const execute = promisify(execFile)
const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds))

class Cluster {
  output = ''

  constructor(command, cwd, env) {
    this.options = { cwd, env }
    this.process = spawn('bash', ['-c', command], { ...this.options, stdio: ['ignore', 'pipe', 'pipe'] })
    for (const stream of [this.process.stdout, this.process.stderr]) {
      stream.setEncoding('utf8').on('data', (text) => { this.output += text })
    }
    this.ended = new Promise((resolve) => this.process.on('close', (code, signal) => resolve(code ?? signal)))
    this.ended.then((status) => { this.status = status })
  }

  // A command to the cluster, which must end with 0.
  async ask(...words) {
    const { stdout } = await execute('recluster', words, this.options)
    return stdout
  }

  // Resolves with the status once it is as wanted.
  async until(what, wanted) {
    const late = Date.now() + DEADLINE
    for (;;) {
      if (this.status !== undefined) throw new Error(`the cluster ended with ${this.status}`)
      const status = await this.ask('status', '--json').then(JSON.parse, () => undefined)
      if (status && wanted(status)) return status
      if (Date.now() > late) throw new Error(`${what}: not after ${DEADLINE} ms, ${JSON.stringify(status)}`)
      await pause(100)
    }
  }

  // Resolves when two workers of this generation serve, and no other worker lives.
  settled(generation) {
    return this.until(`generation ${generation} serves alone`, ({ workers }) =>
      workers.length === 2 && workers.every((each) => each.generation === generation && each.state === 'serving'))
  }

  async stop() {
    await this.ask('stop')
    const status = await this.ended
    if (status !== 0) throw new Error(`a stopped cluster ended with ${status}`)
  }
}

// Where the cluster answers: on the loopback interface, and on the port that the command names, if it does.
const baseOf = ({ listeners }, command) => {
  const port = /^(?:0\.0\.0\.0|127\.0\.0\.1|\[::1?\]):(\d+)$/.exec(listeners[0]?.address)?.[1]
  const wanted = /(?:\bPORT=|\s-p )(\d+)/.exec(command)?.[1] ?? port
  if (!port || port !== wanted) throw new Error(`it listens on ${JSON.stringify(listeners)}`)
  return `http://${listeners[0].address.startsWith('[::1]') ? '[::1]' : '127.0.0.1'}:${port}`
}

// An application may have a client.mjs, which says what to ask for.
const clientOf = (directory) => {
  const file = path.join(directory, 'client.mjs')
  return fs.existsSync(file) ? import(file) : {}
}

const pidsOf = ({ workers }) => workers.map((worker) => worker.pid)

const underLoad = async (cluster, command, directory) => {
  const first = await cluster.settled(1)
  const load = new Load(baseOf(first, command), await clientOf(directory))
  try {
    await load.heardOf(pidsOf(first))
    for (let generation = 2; generation <= RELOADS + 1; generation += 1) {
      await cluster.ask('reload')
      const status = await cluster.settled(generation)
      await load.heardOf(pidsOf(status))
    }
  } finally {
    await load.stop()
  }
  if (load.lost.length > 0) throw new Error(`${load.lost.length} of ${load.asked} lost:\n${load.lost.slice(0, 10).join('\n')}`)
  return load.asked
}

export const trial = async (command, directory, env) => {
  const begun = Date.now()
  const cluster = new Cluster(command, directory, env)
  try {
    const asked = await underLoad(cluster, command, directory)
    await cluster.stop()
    const signalled = cluster.output.split('\n').find((line) => /is sent SIG(TERM|KILL)|SIGKILL follows/.test(line))
    if (signalled) throw new Error(`a worker did not leave by itself: ${signalled}`)
    return { asked, reloads: RELOADS, seconds: Math.round((Date.now() - begun) / 1000) }
  } catch (error) {
    throw new Error(`\`${command}\`: ${error.message}\n${cluster.output.slice(-4000)}`)
  } finally {
    if (cluster.status === undefined) {
      await cluster.ask('terminate').catch(() => cluster.process.kill())
      await cluster.ended
    }
  }
}
