// A Node process beside the test that tells what it does by messages to its parent.
'use strict'

const assert = require('node:assert/strict')
const { spawn } = require('node:child_process')
const { EventEmitter, once } = require('node:events')

const { runs } = require('./process')
const { heard, until, within } = require('./wait')

// What a surrounding test run or shell may have left.
const UNWANTED = ['NODE_ENV', 'NODE_OPTIONS', 'NODE_TEST_CONTEXT', 'NODE_UNIQUE_ID', 'RECLUSTER_TEST_BODY']

class Program {
  /** Everything that it wrote. */
  text = ''
  /** What it told. */
  messages = []
  /** A promise of how it ends, however long that takes. */
  end
  #child
  #events = new EventEmitter()

  /**
   * @param {string[]} args  the arguments of node: a file, and its arguments
   * @param {object} options  those of `spawn`; `given` are descriptors that it has from 4 on, `by` the command that starts node
   */
  constructor (args, { env = {}, given = [], by = [], ...options } = {}) {
    const inherited = { ...process.env }
    for (const name of UNWANTED) delete inherited[name]
    const stdio = ['ignore', 'pipe', 'pipe', 'ipc', ...given]
    const [program, ...words] = [...by, process.execPath, ...args]
    this.#child = spawn(program, words, { ...options, env: { ...inherited, ...env }, stdio })
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream.setEncoding('utf8').on('data', (text) => {
        this.text += text
        this.#events.emit('text')
      })
    }
    this.#child.on('message', (message) => {
      this.messages.push(message)
      this.#events.emit('message', message)
    })
    this.end = once(this.#child, 'exit')
  }

  get pid () {
    return this.#child.pid
  }

  /** The pids of its workers, of which it tells by { forked: PID }. */
  get workers () {
    return this.messages.map(({ forked }) => forked).filter(Boolean)
  }

  /** Calls back at each message. */
  onMessage (listener) {
    this.#events.on('message', listener)
  }

  send (message) {
    this.#child.send(message)
  }

  kill (signal) {
    this.#child.kill(signal)
  }

  /** Waits until it has told something of this name, and gives that. */
  async told (name) {
    const is = (message) => name in message
    const message = this.messages.find(is) ?? await within(`the message '${name}'`, (resolve, reject) => {
      const listen = (message) => is(message) && resolve(message)
      this.#events.on('message', listen)
      this.end.then(() => reject(new Error(`it ended before it told '${name}':\n${this.text}`)))
      return () => this.#events.removeListener('message', listen)
    })
    return message[name]
  }

  /** Waits for its end, and gives how it ended: [status, signal]. */
  ended (deadline) {
    return within('the end of the program', (resolve) => { this.end.then(resolve) }, deadline)
  }

  /** Waits until it has written this. */
  async wrote (text) {
    while (!this.text.includes(text)) await heard(this.#events, 'text')
  }

  /** Waits until none of its workers runs any more. */
  async abandoned () {
    await until('the end of all workers behind that of their host', () => !this.workers.some(runs))
  }

  /** Leaves nothing of it behind. */
  destroy () {
    for (const pid of [this.pid, ...this.workers].filter(runs)) process.kill(pid, 'SIGKILL')
    this.#child.stdout.destroy()
    this.#child.stderr.destroy()
  }
}

/** Runs a program to its end, which is waited for as long as for anything; what it printed. */
async function output (args, options) {
  const program = new Program(args, options)
  try {
    assert.deepEqual(await program.ended(), [0, null], program.text)
    return program.text
  } finally {
    program.destroy()
  }
}

module.exports = { Program, output }
