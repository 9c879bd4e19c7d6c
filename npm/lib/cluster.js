'use strict';

// The cluster as its user holds it: the methods and events of the reference, and what is new.

const { EventEmitter, captureRejectionSymbol } = require('events');
const { isMainThread } = require('worker_threads');

const { answer, promise } = require('./answers');
const { notRunning, panicked, refused } = require('./errors');
const faults = require('./faults');
const hooks = require('./hooks');
const ids = require('./ids');
const launch = require('./launch');
const Link = require('./link');
const engine = require('./native');
const options = require('./options');
const say = require('./say');
const Starts = require('./starts');

ids.share(engine);

/** The methods. Each may be passed around by itself. */
const METHODS = ['run', 'reload', 'scale', 'status', 'stop', 'shutdown', 'terminate', 'workers', 'activeWorkers'];

/** The run that tells the service manager how it does: one at a time, since there is one service. */
let speaker = null;

/** Whether nothing is left of a run, or it has never begun. */
function isOver(run) {
  return run === null || run.link === null || run.link.isOver;
}

class Cluster extends EventEmitter {
  #file;
  /** The user's own object, which may change: it is read when a generation begins. */
  #options;
  /** What stands for lists among the options that are not given. */
  #defaults = { args: [], execArgv: hooks.inherited() };
  /** What logs, and what, as the options said when they were read the last time. */
  #logging;
  /** What has been told, and is not told again. */
  #told = new Set();
  /** The run that is going on, or was the last one. Its phase: running, released, leaving or killed. */
  #run = null;
  #workers = [];
  #active;
  /** What made a worker ready, or will: the address where it listens, or its message. */
  #readyBy = new WeakMap();

  /**
   * @param {string} file
   * @param {object} said
   */
  constructor(file, said) {
    // The promise of a listener that is rejected is caught below.
    super({ captureRejections: true });
    if (typeof file !== 'string') throw new TypeError(`recluster: the server file must be a path, not ${file}`);
    this.#file = file;
    this.#options = said;
    this.#active = { length: this.#plan().workers };
    for (const name of METHODS) this[name] = this[name].bind(this);
  }

  [captureRejectionSymbol](error, event) {
    faults.rejected(`a listener of '${String(event)}'`, error);
  }

  /** Starts the workers; after stop(), supervises again those that live. Does nothing while it runs. */
  run() {
    if (this.#isRunning()) return;
    if (this.#run !== null && this.#run.phase === 'released' && this.#run.link.resume()) {
      this.#run.phase = 'running';
      return;
    }
    const plan = this.#whole();
    if (!isMainThread || !isOver(speaker)) plan.systemd = undefined;
    const { watches } = options.watched(this.#options);
    const run = { phase: 'running', link: null, starts: new Starts(plan), watches };
    if (plan.systemd !== undefined) speaker = run;
    run.link = new Link(run.starts.plan, this.#listener(run));
    this.#run = run;
  }

  /**
   * Replaces every worker. With a callback, that is told how it went; without one, a promise is returned, which is
   * handled already: nobody has to look at it.
   * @param {(error?: Error) => void} [callback]
   */
  reload(callback) {
    return answer(callback, (done) => this.#reload(done));
  }

  /** Changes the number of slots; the promise is of the new number. */
  scale(slots) {
    return promise((done) => {
      if (!(Number.isSafeInteger(slots) && slots >= 1)) {
        done(new RangeError(`recluster: scale() takes a whole number from 1 on, not ${slots}`));
      } else if (!this.#isRunning()) {
        done(notRunning('scale'));
      } else {
        this.#run.link.scale(slots, done);
      }
    });
  }

  /** A promise of a picture of the whole cluster. */
  status() {
    return promise((done) => {
      if (this.#run !== null && !this.#run.link.isOver) this.#run.link.status(done);
      else done(notRunning('status'));
    });
  }

  /** Supervises no more. The workers are left alone. */
  stop() {
    if (!this.#isRunning()) return;
    this.#run.phase = 'released';
    this.#run.link.release();
  }

  /** Lets every worker finish what it has; the callback is called, or the promise kept, when all are gone. */
  shutdown(callback) {
    return answer(callback, (done) => this.#end('leaving', 'stop', () => done()));
  }

  /** Kills every worker; the callback is called when all are gone. */
  terminate(callback) {
    this.#end('killed', 'terminate', () => typeof callback === 'function' && faults.guard('a callback', callback));
  }

  /** Every worker that lives: not ready yet, active, or on its way out. Always the same array. */
  workers() {
    return this.#workers;
  }

  /** The worker that serves in each slot, by number; null where there is none. Always the same object. */
  activeWorkers() {
    return this.#active;
  }

  #isRunning() {
    return this.#run !== null && this.#run.phase === 'running' && !this.#run.link.isOver;
  }

  /** How the cluster is to be run, as the options say now. */
  #plan() {
    this.#logging = options.logging(this.#options);
    // What is watched, and what follows from it, a reload does not change.
    const plan = options.read(this.#options, this.#isRunning() ? this.#run.watches : undefined);
    this.#tellStrangers();
    return plan;
  }

  /** The same, and what is to be started. */
  #whole() {
    const plan = { ...this.#plan(), ...launch.describe(this.#file, this.#options, this.#defaults, this.#isRunning()) };
    const lost = hooks.lost(plan.server, plan.execArgv);
    if (lost !== undefined) this.#once(lost);
    return plan;
  }

  /** The plan of a run, with what its next worker is to be started with. */
  #latest({ starts }) {
    try {
      return starts.latest((plan) => launch.refresh(plan, this.#options, this.#defaults));
    } catch (error) {
      this.#unfit(error);
      return starts.plan;
    }
  }

  /** What is said of the start of workers now is wrong. */
  #unfit({ message }) {
    this.#once(`recluster: workers are started as before: ${message.replace(/^recluster: /, '')}`);
  }

  #tellStrangers() {
    for (const { name, meant } of options.unknown(this.#options)) this.#once(say.unknownOption(name, meant));
  }

  #once(line) {
    if (!this.#told.has(line)) this.#log(line);
    this.#told.add(line);
  }

  #reload(done) {
    if (!this.#isRunning()) {
      process.nextTick(done, notRunning('reload'));
      return;
    }
    let plan;
    try {
      plan = this.#whole();
    } catch (cause) {
      const error = refused(cause);
      this.#log(error.message);
      process.nextTick(done, error);
      return;
    }
    this.#run.starts.reload(plan);
    this.#run.link.reload(plan, done);
  }

  #end(phase, how, done) {
    if (this.#run === null) {
      done();
    } else {
      if (this.#run.phase !== 'killed') this.#run.phase = phase;
      this.#run.link[how](done);
    }
  }

  /** What is done with what a run tells. */
  #listener(run) {
    return {
      spawned: (worker) => {
        this.#workers.push(worker);
        worker.on('message', (message) => this.#message(worker, message));
      },
      happened: (event, worker, ...rest) => {
        if (event === 'listening') this.#readyBy.set(worker, rest[0]);
        if (event === 'ready') rest.push(this.#readyBy.get(worker));
        if (speaks(run)) faults.emit(this, event, worker, ...rest);
        if (event === 'ready') this.#activate(worker);
        if (event === 'disconnect' && speaks(run)) this.#deactivate(worker);
      },
      active: (slot, worker) => {
        // Whom nobody supervises any more serves until its end. A slot that has been scaled away is told of as well.
        if (run === this.#run && speaks(run) && slot < this.#active.length) this.#active[slot] = worker;
      },
      gone: (worker) => {
        const index = this.#workers.indexOf(worker);
        if (index >= 0) this.#workers.splice(index, 1);
        this.#deactivate(worker);
      },
      noted: (note, worker) => {
        run.starts.noted(note);
        if (note.event === 'panicked' && note.ends) run.panic = panicked(say.panicked(note));
        this.#noted(note, worker);
      },
      over: () => {
        if (run.panic) this.#failed(run.panic);
      },
      latest: () => this.#latest(run),
      unfit: (error) => this.#unfit(error),
    };
  }

  #message(worker, message) {
    const command = message?.cmd;
    if (command === 'ready' || message === 'ready') this.#readyBy.set(worker, message);
    faults.emit(this, 'message', worker, message);
    // It fails, and asks to be replaced.
    if (command === 'disconnect') this.#deactivate(worker);
  }

  // The engine says who is active, a moment after it has said why. What is certain is done at once, so that whoever hears
  // of it finds it done.

  #activate(worker) {
    const slot = worker._rc_wid;
    if (!this.#active[slot]) this.#active[slot] = worker;
  }

  #deactivate(worker) {
    const slot = worker._rc_wid;
    if (this.#active[slot] === worker) this.#active[slot] = null;
  }

  #noted(note, worker) {
    if (note.event === 'scaled') this.#resize(note.to);
    if (note.event === 'respawning') {
      if (worker) {
        worker._rc_isReplaced = true;
        this.#deactivate(worker);
      }
      const { logger, respawns } = this.#logging;
      if (respawns) faults.log(logger, say.respawning(note));
    } else {
      const line = say.line(note);
      if (line !== undefined) this.#log(line);
    }
  }

  /** The engine has panicked, and no worker is left. As with every emitter, an error to which nobody listens ends the program. */
  #failed(error) {
    if (this.listenerCount('error') > 0) faults.emit(this, 'error', error);
    else setImmediate(() => { throw error; });
  }

  #resize(slots) {
    for (let slot = slots; slot < this.#active.length; slot += 1) delete this.#active[slot];
    this.#active.length = slots;
  }

  #log(line) {
    faults.log(this.#logging.logger, [line]);
  }
}

/** A cluster that supervises no more, or is being killed, keeps silent, but for messages. */
function speaks({ phase }) {
  return phase === 'running' || phase === 'leaving';
}

module.exports = Cluster;
