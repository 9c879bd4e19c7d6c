'use strict';

// The cluster where there is no native engine, on a developer's Mac for instance: version 1 of this package, on Node's own
// `cluster`, under the same API. What version 1 does not do is said, once, and not imitated.

const v1 = require('recluster-v1');

const { answer, promise } = require('./answers');
const { abandoned, notInFallback, notRunning } = require('./errors');
const faults = require('./faults');
const hooks = require('./hooks');
const options = require('./options');
const { platform } = require('./engines');
const say = require('./say');

/** How long a worker may go on at a shutdown, in seconds, unless it is said. */
const STOP_TIMEOUT = 25;

class Fallback {
  #said;
  /** What version 1 holds as its options: it fills in defaults, which must not reach the user's own object. */
  #given;
  #made;
  #isRunning = false;
  /** Callbacks of reloads under way. */
  #reloads = new Set();
  #told = new Set();

  /**
   * @param {string} file
   * @param {object} said
   * @returns {import('events').EventEmitter} the cluster
   */
  constructor(file, said) {
    if (typeof file !== 'string') throw new TypeError(`recluster: the server file must be a path, not ${file}`);
    this.#said = said;
    const { respawn, backoff, readyWhen } = said;
    this.#given = { respawn, backoff, readyWhen, logger: { log: (...line) => this.#log(line) } };
    this.#refresh();
    this.#made = v1(file, this.#given);
    const { run, reload, stop, terminate } = this.#made;
    Object.assign(this.#made, {
      run: () => this.#run(run),
      reload: (callback) => answer(callback, (done) => this.#reload(reload, done)),
      stop: () => this.#stop(stop),
      terminate: (callback) => this.#terminate(terminate, callback),
      shutdown: (callback) => answer(callback, (done) => this.#shutdown(stop, done)),
      scale: () => this.#missing('scale()'),
      status: () => this.#missing('status()'),
    });
    return this.#made;
  }

  /** Reads the user's options anew: they are checked as those of the native engine are. */
  #refresh() {
    options.logging(this.#said);
    options.watched(this.#said);
    const { workers, timeout } = options.read(this.#said, false);
    Object.assign(this.#given, {
      workers,
      // Version 1 takes 0 for its default.
      timeout: timeout === 0 ? -1 : timeout,
      args: options.list(this.#said, 'args'),
      execArgv: this.#said.execArgv ? options.list(this.#said, 'execArgv') : hooks.inherited(),
      log: this.#said.log || { respawns: true },
    });
    options.unknown(this.#said).forEach(({ name, meant }) => this.#once(say.unknownOption(name, meant)));
    const fresh = options.news(this.#said);
    if (fresh.length > 0) this.#once(`recluster: the fallback has no ${fresh.join(', ')}`);
  }

  #run(run) {
    if (this.#isRunning) return;
    this.#refresh();
    this.#once(
      `recluster: this is the fallback on Node's own cluster (${platform()}): a reload may lose requests, and broken code is not rolled back`,
    );
    this.#isRunning = true;
    run();
  }

  #reload(reload, done) {
    if (!this.#isRunning) {
      process.nextTick(done, notRunning('reload'));
      return;
    }
    this.#refresh();
    const end = (error) => this.#reloads.delete(end) && done(error);
    this.#reloads.add(end);
    reload(() => end());
  }

  #stop(stop) {
    this.#isRunning = false;
    stop();
    this.#reloads.forEach((end) => process.nextTick(end, abandoned()));
  }

  #terminate(terminate, callback) {
    // It calls our stop().
    terminate();
    if (typeof callback === 'function') this.#whenGone(() => faults.guard('a callback', callback));
  }

  /** Lets every worker finish what it has, as far as Node's own disconnect does. */
  #shutdown(stop, done) {
    this.#stop(stop);
    const timeout = this.#said.stopTimeout ?? Math.min(STOP_TIMEOUT, this.#given.timeout);
    for (const worker of [...this.#made.workers()]) {
      const timer = setTimeout(() => worker.process.kill('SIGKILL'), Math.max(timeout, 0) * 1000);
      worker.process.once('exit', () => clearTimeout(timer));
      if (worker.isConnected()) {
        // It may just have ended, and what is sent to it fails.
        worker.on('error', () => {});
        worker.send({ cmd: 'disconnect' }, () => {});
        worker.disconnect();
      }
    }
    this.#whenGone(done);
  }

  /** Version 1 forgets a worker when its process has ended. */
  #whenGone(done) {
    const workers = [...this.#made.workers()];
    let left = workers.length;
    if (left === 0) process.nextTick(done);
    for (const worker of workers) {
      worker.process.once('exit', () => {
        left -= 1;
        if (left === 0) setImmediate(done);
      });
    }
  }

  #missing(what) {
    return promise((done) => {
      this.#once(`recluster: the fallback has no ${what}`);
      process.nextTick(done, notInFallback(what));
    });
  }

  #once(line) {
    if (this.#told.has(line)) return;
    this.#told.add(line);
    this.#log([line]);
  }

  #log(line) {
    faults.log(this.#said.logger || console, line);
  }
}

module.exports = Fallback;
