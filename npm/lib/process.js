'use strict';

// A worker's process, as Node shows one: a ChildProcess in all that its users see. The process itself is the engine's;
// what happens to it is told here by `received`, `disconnected` and `exited`.

const { ChildProcess } = require('child_process');
const { EventEmitter } = require('events');
const net = require('net');
const os = require('os');

const errors = require('./errors');
const { emit, guard, report } = require('./faults');
const handles = require('./handles');
const Hold = require('./alive');
const { WAYS } = require('./serialization');

/** With so many bytes on their way, send() says that it is enough for now: as Node's. */
const MUCH = 2 * 65536;

class WorkerProcess extends EventEmitter {
  #link;
  #id;
  #process = new Hold();
  #channel = new Hold();
  #isChannelOpen = true;
  #bytesUnsent = 0;
  /** The sockets that it has sent. */
  #given = new handles.Given();
  /** How they are written. */
  #messages;
  /** What has to end before 'close': the process, its channel, and what it writes to pipes. */
  #open = 2;

  /**
   * @param {import('./link')} link who speaks with it
   * @param {number} id its worker's number
   * @param {{pid: number, stdio: (number | null)[], serialization: string, plan: object}} born how it was started
   */
  constructor(link, id, { pid, stdio, serialization, plan }) {
    super();
    this.#link = link;
    this.#id = id;
    this.#messages = WAYS[serialization];
    this.pid = pid;
    this.connected = true;
    this.exitCode = null;
    this.signalCode = null;
    this.killed = false;
    this.spawnfile = plan.node;
    this.spawnargs = [plan.node, ...plan.execArgv, plan.server, ...plan.args];
    this.channel = {
      ref: () => this.#channel.set(this.#isChannelOpen),
      unref: () => this.#channel.set(false),
    };
    this.stdio = [...stdio.map((fd, number) => this.#stream(fd, number)), null];
    [this.stdin, this.stdout, this.stderr] = this.stdio;
    this.#process.set(true);
    this.#channel.set(true);
    process.nextTick(() => emit(this, 'spawn'));
  }

  #stream(fd, number) {
    if (fd === null) return null;
    const stream = new net.Socket({ fd, readable: number > 0, writable: number === 0 });
    if (number > 0) {
      this.#open += 1;
      stream.once('close', () => this.#closed());
    }
    return stream;
  }

  /** As Node's: `send(message[, handle[, options]][, callback])`. */
  send(message, handle, options, callback) {
    if (typeof handle === 'function') [handle, options, callback] = [undefined, undefined, handle];
    if (typeof options === 'function') [options, callback] = [undefined, options];
    if (options !== undefined && (options === null || typeof options !== 'object')) {
      throw errors.wrongType('options', 'of type object', options);
    }
    if (!this.connected) {
      this.#failed(errors.channelClosed(), callback);
      return false;
    }
    check(message);
    if (isNodesDisconnect(message)) {
      this.#link.disconnect(this.#id);
      return true;
    }
    return this.#post(message, handle, options, callback);
  }

  #post(message, handle, options, callback) {
    const packed = handle ? handles.pack(handle) : null;
    const written = this.#messages.write(message, packed?.kind);
    const size = Buffer.byteLength(written);
    this.#bytesUnsent += size;
    this.#link.post(this.#id, written, packed, (error) => {
      this.#bytesUnsent -= size;
      if (typeof callback === 'function') guard('a callback', () => callback(error));
      else if (error !== null && this.#hearsErrors(options)) this.emit('error', error);
    });
    if (packed !== null) handles.letGo(handle, options);
    return this.#bytesUnsent < MUCH;
  }

  /**
   * Whether somebody wants to know that a message was not sent. (One listener is the worker object's, which would throw
   * where nobody listens to that: too much for a message that met a worker on its way out.)
   */
  #hearsErrors({ swallowErrors = false } = {}) {
    return !swallowErrors && (this.listenerCount('error') > 1 || this.#link.hearsErrors(this.#id));
  }

  #failed(error, callback) {
    process.nextTick(() => {
      if (typeof callback === 'function') guard('a callback', () => callback(error));
      else this.emit('error', error);
    });
  }

  /** As Node's: false if it is dead. */
  kill(signal = 'SIGTERM') {
    const number = signalNumber(signal);
    const isAlive = this.exitCode === null && this.signalCode === null;
    if (!isAlive || !this.#link.signal(this.#id, number)) return false;
    this.killed = true;
    return true;
  }

  /** As Node's, but that the worker may finish what it has. */
  disconnect() {
    if (!this.connected) {
      this.emit('error', errors.alreadyDisconnected());
      return;
    }
    this.connected = false;
    this.#link.disconnect(this.#id);
  }

  ref() {
    this.#process.set(this.exitCode === null && this.signalCode === null);
  }

  unref() {
    this.#process.set(false);
  }

  /** The worker sent a message. */
  received(written, handle) {
    let message;
    const isUsable = handle && this.#allows(handle);
    try {
      message = this.#messages.read(written);
    } catch (error) {
      if (isUsable) handles.drop(handle);
      throw error;
    }
    if (isUsable) {
      this.#unpack(handle, message);
    } else {
      emit(this, 'message', message, undefined);
    }
  }

  /** Whether what came with a message may be had. If not, it is closed, and the message comes without it. */
  #allows(handle) {
    if (handle.fd === undefined) {
      if (handle.lies) report(`worker ${this.#id} sent something as a ${handle.kind} that is none: it was closed`);
      return false;
    }
    if (this.#given.hasRoom()) return true;
    handles.drop(handle);
    report(`worker ${this.#id} has sent too many sockets that are still open: more of them are closed`);
    return false;
  }

  #unpack(handle, message) {
    this.#given.opens();
    handles.unpack(handle, (object) => {
      if (object) object.once('close', () => this.#given.closes());
      else this.#given.closes();
      emit(this, 'message', message, object);
    });
  }

  /** Its channel is closed. */
  disconnected() {
    if (!this.#isChannelOpen) return;
    this.#isChannelOpen = false;
    this.connected = false;
    this.channel = null;
    this.#channel.set(false);
    emit(this, 'disconnect');
    this.#closed();
  }

  /** It has ended. */
  exited({ code, signal }) {
    if (signal === undefined) this.exitCode = code;
    else this.signalCode = signalName(signal);
    this.#process.set(false);
    this.#given.ends();
    if (this.stdin) this.stdin.destroy();
    // What nobody reads has to be read, or its end would never be seen.
    process.nextTick(() => this.stdio.forEach((stream) => stream && stream.readable && stream.resume()));
    emit(this, 'exit', this.exitCode, this.signalCode);
    this.#closed();
  }

  #closed() {
    this.#open -= 1;
    if (this.#open === 0) emit(this, 'close', this.exitCode, this.signalCode);
  }
}

// Its constructor is never called: it would start a process.
Object.setPrototypeOf(WorkerProcess.prototype, ChildProcess.prototype);

function check(message) {
  if (message === undefined) throw errors.missingArgument('message');
  if (!['string', 'object', 'number', 'boolean'].includes(typeof message)) {
    throw errors.wrongType('message', 'one of type string, object, number, or boolean', message);
  }
}

/** What `worker.disconnect()` sends. */
function isNodesDisconnect(message) {
  return message !== null && message.cmd === 'NODE_CLUSTER' && message.act === 'disconnect';
}

function signalNumber(signal) {
  const { signals } = os.constants;
  const isKnown = signal === 0 || Object.values(signals).includes(signal);
  const number = isKnown ? signal : signals[String(signal).toUpperCase()];
  if (number === undefined) throw errors.unknownSignal(signal);
  return number;
}

function signalName(number) {
  const known = Object.entries(os.constants.signals).find(([, value]) => value === number);
  return known ? known[0] : `SIG${number}`;
}

module.exports = WorkerProcess;
