// Writes down what a cluster says: the events of its four emitters with their arguments, the log, and what was called, each
// with what the cluster's lists hold at that moment.
'use strict'

const cluster = require('node:cluster')
const { EventEmitter } = require('node:events')
const { inspect } = require('node:util')

const { heard } = require('../lib/wait')

const EVENTS = {
  object: ['online', 'listening', 'ready', 'message', 'disconnect', 'exit', 'error'],
  node: ['fork', 'online', 'listening', 'message', 'disconnect', 'exit', 'setup'],
  worker: ['online', 'listening', 'message', 'disconnect', 'exit', 'error'],
  process: ['message', 'disconnect', 'exit', 'close', 'error']
}

// A value on one line.
const LINE = { breakLength: Infinity, sorted: true }

class Recorder {
  /** Each is { about, text, state }: the worker, or null where it is about none; what was said; and the lists then. */
  entries = []
  #written = new EventEmitter()
  #names = new Map()
  #ports = new Map()

  constructor (made) {
    this.made = made
    this.#listen('object', made, null)
    this.#listen('node', cluster, null)
    // A worker that was forked by a timer is met here, before anything can have happened to it.
    cluster.on('fork', (worker) => this.#meet(worker))
  }

  /** The name of a worker: its slot, and which worker of that slot it is. `1b` is the second one of slot 1. */
  name (worker) {
    this.#meet(worker)
    return this.#names.get(worker)
  }

  /** Looks for workers that a call has forked, so that none of their events are missed. */
  look () {
    this.made.workers().forEach((worker) => this.#meet(worker))
  }

  /** Something that was not an event: what a call returned, a line that was logged. */
  note (text, about = null) {
    this.look()
    this.#write(about, text, about ? this.#stateOf(about) : this.#state())
  }

  #write (about, text, state) {
    const entry = { about: about && this.name(about), text, state }
    this.entries.push(entry)
    this.#written.emit('entry', entry)
  }

  /** The object that clusters log to. */
  logger = {
    log: (...args) => {
      const [, pid] = /^\[(\d+)\]/.exec(args[0]) ?? []
      const worker = [...this.#names.keys()].find((worker) => `${worker.process.pid}` === pid)
      const line = `${args[0]}`.replace(pid, 'PID').replace(`:${worker?.id})`, ':ID)')
      const numbers = args.slice(1).map((arg) => typeof arg === 'number' ? 'MS' : arg)
      this.note(`logs ${this.#show([line, ...numbers])}`, worker)
    }
  }

  /** Waits until such a thing was said about the worker of this name, unless it already was. */
  until (name, text) {
    const is = (entry) => entry.about === name && (text instanceof RegExp ? text.test(entry.text) : entry.text.startsWith(text))
    return this.entries.some(is) ? undefined : heard(this.#written, 'entry', is, `${name} ${text}`)
  }

  /** The worker of this name. */
  worker (name) {
    return [...this.#names].find(([, known]) => known === name)[0]
  }

  #meet (worker) {
    if (this.#names.has(worker)) return
    const slot = worker._rc_wid
    const before = [...this.#names.keys()].filter((known) => known._rc_wid === slot).length
    this.#names.set(worker, `${slot}${String.fromCharCode('a'.charCodeAt(0) + before)}`)
    this.#listen('worker', worker, worker)
    this.#listen('process', worker.process, worker)
  }

  #listen (kind, emitter, of) {
    for (const event of EVENTS[kind]) {
      emitter.on(event, (...args) => {
        // The settings are told a tick later, when the lists may be anything.
        if (event === 'setup') return this.#write(null, `node setup(${inspect(settings(args[0]), LINE)})`, '')
        const about = of ?? (args[0] instanceof cluster.Worker ? args[0] : null)
        this.note(`${kind} ${event}(${this.#show(args)})`, about)
      })
    }
  }

  #show (args) {
    return args.map((arg) => arg instanceof cluster.Worker ? this.name(arg) : this.#plain(arg)).join(', ')
  }

  // Ports are of the kernel's choice.
  #plain (value) {
    if (value && typeof value.port === 'number') value = { ...value, port: this.#port(value.port) }
    if (value instanceof Error) return `${value.name} ${value.code}`
    return inspect(value, LINE).replaceAll(/'(PORT \d+)'/g, '$1')
  }

  #port (port) {
    if (!this.#ports.has(port)) this.#ports.set(port, `PORT ${this.#ports.size + 1}`)
    return this.#ports.get(port)
  }

  // What can be seen of one worker: in which lists it is, who holds its slot, and what it says of itself.
  #stateOf (worker) {
    const holder = this.made.activeWorkers()[worker._rc_wid]
    const lists = [
      this.made.workers().includes(worker) ? 'workers' : '',
      cluster.workers[worker.id] === worker ? 'cluster.workers' : '',
      `slot: ${holder ? this.name(holder) : holder}`
    ]
    const itself = [
      worker.state,
      worker.isConnected() ? 'isConnected' : '',
      worker.isDead() ? 'isDead' : '',
      `exitedAfterDisconnect: ${worker.exitedAfterDisconnect}`
    ]
    return [...lists, ...itself].filter(Boolean).join(', ')
  }

  // The same of all of them.
  #state () {
    const names = (workers) => workers.map((worker) => this.name(worker)).sort().join(' ') || 'none'
    const slots = Array.from(this.made.activeWorkers(), (worker) => worker ? this.name(worker) : `${worker}`)
    return `workers: ${names(this.made.workers())}; cluster.workers: ${names(Object.values(cluster.workers))}; slots: ${slots.join(' ')}`
  }
}

// What of the settings is not of the machine.
const settings = ({ args, exec, execArgv, silent }) => ({ args, exec: exec?.replace(/.*\//, ''), execArgv, silent })

module.exports = { Recorder }
