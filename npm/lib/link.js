'use strict';

// The link to one running cluster of the engine: its workers as objects, and what it tells, in order.
//
// The engine leaves notes and wakes us. Each note has a turn of the event loop to itself: so whoever listens may throw, and
// no note behind it is lost.

const { isMainThread } = require('worker_threads');

const engine = require('./native');
const Hold = require('./alive');
const { guard } = require('./faults');
const Questions = require('./questions');
const Worker = require('./worker');
const WorkerProcess = require('./process');

/**
 * @typedef {object} Listener what a link tells
 * @property {(worker: object) => void} spawned
 * @property {(event: string, worker: object, argument?: unknown) => void} happened one of online, listening, ready,
 *   disconnect, exit
 * @property {(worker: object) => void} gone it has exited, and everybody has been told
 * @property {(slot: number, worker: object | null) => void} active
 * @property {(note: object, worker?: object) => void} noted anything else
 * @property {() => object} latest what a worker is to be started with: a plan, of which the rest does not matter
 * @property {(error: Error) => void} unfit why the engine cannot start one so
 */

class Link {
  #cluster;
  #listener;
  #plan;
  #workers = new Map();
  #questions = new Questions((note) => this.#later([note]));
  #supervises = true;
  #isOver = false;
  #atEnd = [];
  /**
   * Between the death of the last worker and its respawn, or the end that somebody waits for, there would be nothing to stay
   * alive for.
   */
  #respawn = new Hold();

  /**
   * Starts a cluster. Its workers are there when this returns.
   * @param {object} plan
   * @param {Listener} listener
   */
  constructor(plan, listener) {
    this.#plan = plan;
    this.#listener = listener;
    try {
      this.#cluster = engine.start(JSON.stringify(plan), () => this.#later(this.#take()), !isMainThread);
    } catch (error) {
      throw new Error(`recluster: ${error.message}`);
    }
    const address = this.#cluster.exposed();
    if (address !== null) this.#later([{ event: 'admin_exposed', address }]);
    this.#settle(plan);
  }

  get isOver() {
    return this.#isOver;
  }

  /** Replaces all workers; `callback` hears why that failed, or null. */
  reload(plan, callback) {
    this.#questions.ask(callback, (ticket) => this.#cluster.reload(ticket, JSON.stringify(plan)));
    this.#settle(plan);
  }

  scale(slots, callback) {
    this.#questions.ask(callback, (ticket) => this.#cluster.scale(ticket, Math.min(slots, 0xffffffff)));
  }

  status(callback) {
    this.#questions.ask(callback, (ticket) => this.#cluster.status(ticket));
  }

  /** Sends a worker a message; `callback` hears why it could not be sent, or null. */
  post(worker, written, handle, callback) {
    const { kind, fd } = handle || {};
    this.#questions.ask(callback, (ticket) => this.#cluster.post(ticket, worker, written, kind, fd));
  }

  /** Whether somebody listens to the errors of a worker. */
  hearsErrors(id) {
    const worker = this.#workers.get(id);
    return worker !== undefined && worker.listenerCount('error') > 0;
  }

  disconnect(worker) {
    this.#cluster.disconnect(worker);
  }

  signal(worker, number) {
    return this.#cluster.signal(worker, number);
  }

  /** Lets all workers finish what they have; `callback` is called when none is left. */
  stop(callback) {
    this.#end('stop', callback);
  }

  /** Kills all workers; `callback` is called when none is left. */
  terminate(callback) {
    this.#end('terminate', callback);
  }

  /** Leaves the workers to themselves. */
  release() {
    this.#supervises = false;
    this.#cluster.release();
    this.#settle();
  }

  /** Supervises them again; false if there is none any more. */
  resume() {
    if (this.#isOver || !this.#tell((plan) => this.#cluster.resume(plan))) return false;
    this.#supervises = true;
    this.#settle();
    return true;
  }

  #end(how, callback) {
    if (this.#isOver) {
      process.nextTick(callback);
      return;
    }
    this.#cluster[how]();
    this.#atEnd.push(callback);
    this.#settle();
  }

  /**
   * Waits until the engine has begun what it was asked, which takes no longer than its forks, and looks who is there:
   * whoever looks when run() or reload() has returned finds their workers, and behind terminate() none comes.
   */
  #settle(plan) {
    if (plan !== undefined) this.#plan = plan;
    this.#cluster.settle(plan && JSON.stringify(plan));
    const notes = this.#take();
    notes.filter(({ event }) => event === 'spawned').forEach((note) => this.#spawned(note));
    this.#later(notes.filter(({ event }) => event !== 'spawned'));
    this.#stayAlive();
  }

  /** Tells the engine what workers are to be started with. Where that cannot be, they are started as their generation began. */
  #tell(call) {
    const plan = this.#listener.latest();
    try {
      const told = call(JSON.stringify(plan));
      this.#plan = plan;
      return told;
    } catch (error) {
      this.#listener.unfit(error);
      return call();
    }
  }

  #take() {
    if (this.#cluster === null) return [];
    const { notes, values } = this.#cluster.take();
    const taken = JSON.parse(notes);
    for (const note of taken) {
      // A message that is no text is beside the notes.
      if (note.event === 'message') note.written = note.json ?? values[note.value];
    }
    return taken;
  }

  #later(notes) {
    notes.forEach((note) => {
      const what = note.event === 'answer' ? 'a callback' : `a listener of '${note.event}'`;
      setImmediate(() => guard(what, () => this.#note(note)));
    });
  }

  #note(note) {
    switch (note.event) {
      case 'answer':
        return this.#answered(note);
      case 'asked':
        return this.#cluster && this.#tell((plan) => this.#cluster.answer(plan));
      case 'spawned':
        return this.#spawned(note);
      case 'active':
        return this.#listener.active(note.slot, (note.worker && this.#workers.get(note.worker.id)) || null);
      case 'over':
        return this.#over();
      default: {
        const worker = note.worker && this.#workers.get(note.worker.id);
        return worker ? this.#noteOf(worker, note) : this.#listener.noted(note);
      }
    }
  }

  #noteOf(worker, note) {
    switch (note.event) {
      case 'message':
        return worker.process.received(note.written, note.handle);
      case 'online':
        Worker.online(worker);
        return this.#listener.happened('online', worker);
      case 'listening':
        return this.#listening(worker, note.listening);
      case 'ready':
        return this.#listener.happened('ready', worker);
      case 'retires':
        return Worker.retires(worker);
      case 'draining':
        return this.#draining(worker, note);
      case 'disconnect':
        return worker.process.disconnected();
      case 'exit':
        return this.#exited(worker, note.exit);
      default:
        return this.#listener.noted(note, worker);
    }
  }

  #spawned({ worker: { id, slot, pid }, stdio, serialization }) {
    const child = new WorkerProcess(this, id, { pid, stdio, serialization, plan: this.#plan });
    const worker = Worker.create(id, slot, child, this.#listener);
    this.#workers.set(id, worker);
    this.#stayAlive();
    this.#listener.spawned(worker);
  }

  #listening(worker, { addressType, address, port, fd }) {
    // As Node's: a unix socket that came as a descriptor has no port, and other servers may not have said one.
    const info = { addressType, address, port: port ?? (addressType === null ? null : undefined), fd: fd ?? undefined };
    Worker.listening(worker, info);
    this.#listener.happened('listening', worker, info);
  }

  #draining(worker, { timeout_seconds: timeout }) {
    worker._rc_isReplaced = true;
    // One that is to go at once is not told to disconnect.
    if (worker.isConnected() && timeout > 0) Worker.leave(worker);
  }

  #exited(worker, exit) {
    // Of a worker that never said a word, the end of its channel is not told.
    worker.process.disconnected();
    worker.process.exited(exit);
    this.#workers.delete(worker.id);
    this.#stayAlive();
    // Once more, should a listener have thrown before it was told.
    this.#listener.gone(worker);
  }

  #answered(note) {
    this.#letGo();
    this.#questions.answered(note);
  }

  #over() {
    this.#isOver = true;
    this.#stayAlive();
    this.#listener.over();
    this.#letGo();
    this.#atEnd.forEach((callback) => setImmediate(callback));
  }

  /** When nothing more can come from the engine, its cluster can be forgotten; and with it, this: it is what that wakes. */
  #letGo() {
    setImmediate(() => {
      if (this.#isOver && this.#questions.areAnswered) this.#cluster = null;
    });
  }

  #stayAlive() {
    const isAwaited = this.#supervises || this.#atEnd.length > 0;
    this.#respawn.set(isAwaited && !this.#isOver && this.#workers.size === 0);
  }
}

module.exports = Link;
