// Part of the preload, behind drain.cjs: how a worker ends when it has no connection any more, or no master.

/**
 * Holds the channel until the last connection is gone, so that the master knows until then what the worker has; tells it
 * then what else keeps the worker alive; and runs what the application has for the signal that would end the worker.
 * `countConnections` says how many there are of the cluster's servers, `inherited` which standard streams are the master's own.
 */
function goodbyes(drain, countConnections, inherited) {
  const { setTimeout, setInterval, setImmediate, nextTick, now, Map } = own;
  /** How many kinds of things that keep a worker alive are named to the master. */
  const KINDS = 16;
  /** How long an application may clean up that has no master to end it, in milliseconds. */
  const CLEAN_UP = 5000;
  /** How long a worker waits for whoever should read its standard streams and reads nothing, and how often it looks, in milliseconds. */
  const UNREAD = 1000;
  const READER_LOOK = 100;
  /** The signals that ask a process to end, the usual one first. */
  const SIGNALS = { SIGTERM: 15, SIGINT: 2 };
  const { worker } = require('cluster');
  const { disconnect: closeChannel } = process;
  let isToClose = false;
  let isClosing = false;
  let isClosed = false;
  /** The application's handlers have run. */
  let isSignalled = false;
  let isEnding = false;

  // The channel is closed when the last connection is.
  define(process, 'disconnect', function () {
    if (!process.connected || worker.state === 'destroying') return closeChannel.call(this);
    drain.leave();
    // Node calls this as well when the other end is closed, and shows that behind the call.
    nextTick(() => {
      if (isClosed) return;
      if (!process.channel) return loseChannel();
      if (worker.exitedAfterDisconnect) isToClose = true;
      // The application calls it: to Node that would be a reason to exit at once.
      else worker.disconnect();
      look();
    });
  });

  return { look, forgetChannel, end };

  function look() {
    watchForSignal();
    if (!isToClose || isClosing || isClosed || countConnections() > 0) return;
    isClosing = true;
    // What is closed in this turn of the loop is listed until its end, behind the immediates of this turn.
    setImmediate(setImmediate, close);
  }

  function close() {
    isClosing = false;
    if (isClosed || countConnections() > 0) return;
    isClosed = true;
    const name = nextSignal();
    drain.sayLast();
    drain.tell({ cmd: 'NODE_RECLUSTER_FAREWELL', alive: aliveness(), handles: name === 'SIGTERM' });
    if (process.connected) closeChannel.call(process);
    // Behind whatever the application does when the channel is closed.
    if (name) setImmediate(cleanUp, name);
    if (inherited.length > 0) waitForReaders();
  }

  /** Ends the worker where nothing else keeps it alive than what it has written and nobody reads. */
  function waitForReaders() {
    let last, since;
    setInterval(() => {
      const waiting = unread();
      if (waiting === undefined || waiting !== last) since = now();
      else if (now() - since >= UNREAD) process.exit();
      last = waiting;
    }, READER_LOOK).unref();
  }

  /** How much waits in standard streams that are the master's own, if that alone keeps the worker alive. */
  function unread() {
    const streams = inherited.map((name) => process[name]).filter((stream) => stream.writableLength > 0 && stream._handle);
    let writes = 0;
    for (const [name, count] of Object.entries(aliveness())) {
      // Which kind of write it is differs from Node to Node.
      if (!name.endsWith('WriteWrap')) return undefined;
      writes += count;
    }
    // Each has one write at a time on its way.
    if (streams.length === 0 || writes > streams.length) return undefined;
    return streams.reduce((sum, stream) => sum + stream.writableLength + stream._handle.writeQueueSize, 0);
  }

  /** What Node itself does when the other end is closed. */
  function loseChannel() {
    isClosed = true;
    process.connected = false;
    process.emit('disconnect');
  }

  /** The signal for which the application has handlers that have not run. */
  function nextSignal() {
    return isSignalled ? undefined : Object.keys(SIGNALS).find((name) => process.listeners(name).some(isForeign));
  }

  function isForeign(listener) {
    return listener !== noteSignal;
  }

  /**
   * Runs the handlers. They are called and no signal is sent: Node might end before it noticed that. Handlers that take
   * themselves away and send the signal to their own process then, as many do, end it by that.
   */
  function cleanUp(name) {
    if (isSignalled) return;
    isSignalled = true;
    process.removeListener('SIGTERM', noteSignal);
    process.emit(name, name, SIGNALS[name]);
  }

  /** Handlers that a signal from outside has run are not run again. */
  function watchForSignal() {
    const listeners = process.listeners('SIGTERM');
    const watches = listeners.includes(noteSignal);
    if (watches && !listeners.some(isForeign)) process.removeListener('SIGTERM', noteSignal);
    else if (!watches && nextSignal() === 'SIGTERM') process.prependOnceListener('SIGTERM', noteSignal);
  }

  function noteSignal() {
    isSignalled = true;
    // The application has taken its own handlers away in the meantime: this one must not protect the process.
    if (process.listenerCount('SIGTERM') === 0) process.kill(process.pid, 'SIGTERM');
  }

  /** What keeps the event loop alive, by Node's names: how many of each. The standard streams, the channel and our own looks do not. */
  function aliveness() {
    const counts = new Map();
    const add = (name, count) => counts.set(name, (counts.get(name) ?? 0) + count);
    for (const name of own.getActiveResources?.() ?? []) add(name, 1);
    for (const handle of own.getHandles.call(process)) {
      if (handle._isStdio && handle._handle?.hasRef?.()) add(`${handle._handle.constructor.name}Wrap`, -1);
    }
    if (process.connected) add('PipeWrap', -1);
    add('Immediate', -drain.looks);
    return Object.fromEntries([...counts].filter(([, count]) => count > 0).slice(0, KINDS));
  }

  /** What talks to a master that is gone would end the worker by an error. */
  function forgetChannel() {
    for (const name of ['stdout', 'stderr']) process[name].on('error', () => {});
    define(process, 'disconnect', () => {});
    define(process, 'send', (...args) => {
      const callback = args.at(-1);
      const error = Object.assign(new Error('Channel closed'), { code: 'ERR_IPC_CHANNEL_CLOSED' });
      if (typeof callback === 'function') nextTick(callback, error);
      return false;
    });
  }

  /** Ends a worker without a master that has no connection any more. */
  function end() {
    if (isEnding) return;
    isEnding = true;
    // First, since what the application has for the end may throw: perhaps nobody reads its last words.
    setTimeout(() => process.exit(0), CLEAN_UP).unref();
    const name = nextSignal();
    if (name) cleanUp(name);
    else if (!isSignalled) process.exit(0);
  }
}
