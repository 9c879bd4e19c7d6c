// The host of one scenario with one implementation. It runs the scenario, and tells the process that forked it what it wrote down:
//
//     node stage.js MODULE SCENARIO
'use strict'

const cluster = require('node:cluster')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')

const { called, heard, turn, until } = require('../lib/wait')
const { Recorder } = require('./recorder')
const { scenarios } = require('./scenarios')

const PUPPET = path.join(__dirname, '..', 'fixtures', 'puppet.js')

/** What a scenario may do. Workers are meant by the names that the recorder gives them. */
class Stage {
  #directory = fs.mkdtempSync(path.join(os.tmpdir(), 'recluster-compare-'))
  #recorder

  constructor (recluster, { file, isBare, isLinked, options, settings }) {
    if (settings) cluster.setupPrimary({ args: [], ...settings })
    if (file) this.write(file)
    const logger = { log: (...args) => this.#recorder.logger.log(...args) }
    if (isLinked) fs.symlinkSync(this.#file, this.#link)
    const named = isLinked ? this.#link : file ? this.#file : PUPPET
    this.made = recluster(isBare ? named.replace(/\.js$/, '') : named, { workers: 1, respawn: 0.01, timeout: 3600, logger, ...options })
    this.#recorder = new Recorder(this.made)
  }

  /** Everything that was said until now. */
  get entries () {
    return [...this.#recorder.entries]
  }

  /** Replaces the server file: by one that `listens`, or one that `throws`. */
  write (what) {
    const does = { listens: "process.argv.push('listen')", throws: "throw new Error('broken')" }[what]
    fs.writeFileSync(this.#file, `'use strict'\n${does}\nrequire(${JSON.stringify(PUPPET)})\n`)
  }

  get #file () {
    return path.join(this.#directory, 'server.js')
  }

  get #link () {
    return path.join(this.#directory, 'current.js')
  }

  run () {
    this.note(`run gives ${this.made.run()}`)
  }

  /** Reloads with a callback, and waits for it. */
  reload (which = 'reload') {
    return called((done) => {
      const given = this.made.reload((...args) => {
        this.note(`the callback of ${which} gets (${args.map(name).join(', ')})`)
        done()
      })
      this.note(`${which} gives ${given}`)
    })
  }

  /** Terminates with a callback, and waits for it. */
  terminate () {
    return called((done) => {
      const given = this.made.terminate((...args) => {
        this.note(`the callback of terminate gets (${args.map(name).join(', ')})`)
        done()
      })
      this.note(`terminate gives ${given}`)
    })
  }

  worker (name) {
    return this.#recorder.worker(name)
  }

  note (text, about) {
    this.#recorder.note(text, about && this.worker(about))
  }

  tell (name, message) {
    this.worker(name).send(message)
  }

  /** Has a worker say something, and waits until all have heard it. */
  async echo (name, message) {
    const said = heard(this.worker(name).process, 'message')
    this.tell(name, { do: 'say', message })
    await said
    await turn()
  }

  until (name, text) {
    return this.#recorder.until(name, text)
  }

  /** Has a worker say that it is ready, once it listens. */
  async makeReady (name) {
    await this.until(name, 'object listening')
    this.tell(name, { do: 'ready' })
    await this.serving(name)
  }

  /** Waits until these workers have listened and are ready. */
  async serving (...names) {
    for (const name of names) {
      await this.until(name, 'object listening')
      await this.until(name, 'object ready')
    }
    await turn()
  }

  /** Waits until these workers are gone, and nothing more is to come from them. */
  async gone (...names) {
    for (const name of names) {
      await this.until(name, 'process exit')
      await this.until(name, 'process disconnect')
      await this.until(name, 'process close')
    }
    await turn()
  }

  /**
   * Waits until these workers, which stay, are disconnected, and ends them. (Of one that ends by itself then, Node may tell the exit
   * first where the machine is busy.)
   */
  async end (...names) {
    for (const name of names) {
      await this.until(name, 'process disconnect')
      this.worker(name).process.kill('SIGKILL')
    }
    await this.gone(...names)
  }

  /** Sends a signal to the process group, as ^C in a terminal does. It has a handler here. */
  signalGroup (name) {
    process.once(name, () => {})
    process.kill(0, name)
  }

  /** Takes everything down. */
  async close () {
    this.made.terminate()
    await until('the end of all workers', () => this.made.workers().length === 0)
    fs.rmSync(this.#directory, { recursive: true })
  }
}

const name = (value) => value instanceof Error ? `${value.name} ${value.code}` : `${value}`

async function main () {
  const [module, which] = process.argv.slice(2)
  const scenario = scenarios[which]
  const stage = new Stage(require(module), scenario)
  const told = {}
  try {
    if (!scenario.isNotRun) stage.run()
    await scenario.script(stage)
  } catch (error) {
    told.failed = error.stack
  }
  told.entries = stage.entries
  await stage.close()
  process.send(told, () => process.exit())
}

main()
