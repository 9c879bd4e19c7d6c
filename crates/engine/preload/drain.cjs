// Loaded into every Node worker before the application (`node --require`). Until the worker is let go it does next
// to nothing. From then on it sees to it that no client loses a request:
//
// - a response whose head is still to be sent says `Connection: close`, and its connection is closed behind it;
// - an idle connection stays open for a grace, so that a request already on its way is answered, and then is closed;
//   it lasts longer where a server has promised that by its keepAliveTimeout;
// - a connection is closed behind a stream of events, whose client would come back on it;
// - an HTTP/2 session is told to go away, and finishes its streams;
// - the channel stays open for as long as a connection does; then what the application has for SIGTERM or SIGINT runs;
// - what it has written to a stdout that nobody reads holds it up for a second and no longer;
// - when the master has died, the worker answers what it has, and ends.
//
// At any time, where the master wants it:
//
// - a connection that it chose this worker for by what its first request says is closed behind the response, as in a
//   drain: whoever reuses the connection (a proxy does) may send another client's request next;
// - connections are counted, which a master does not see where workers accept by themselves, and whether they last;
// - the master is answered at once when it asks whether this worker's loop turns;
// - the master is told how this worker does when it asks, and which requests it has answered (measures.cjs);
// - what is written to stderr is told to a master that does not see it (stderr.cjs);
// - compiled code is kept for the next worker (cache.cjs).
//
// Upgraded connections (WebSocket) and other protocols are the application's own: nothing here touches them.
// Nothing is visible to the application: no global, no argument, no variable; nothing is wrapped before the drain but
// `cluster.worker.disconnect`, `process.disconnect`, `process._fatalException` and `cluster._getServer`; and from the first connection for a
// single response on, `_send`, `_writeRaw` and `_flush` of `http.ServerResponse.prototype`; where stderr is told, `process.stderr` and its
// `write`. Who counts connections is a subscriber of the diagnostics channel `net.server.socket`,
// who counts requests of `http.server.request.start`, `http.server.response.finish` and two of `http2.server.stream`, and has a listener of `exit`.
//
// Node loads one file: this one, with those beside it behind it. They hold functions only.

'use strict';

const SETTINGS = 'RECLUSTER_DRAIN';
const SERVER = 'RECLUSTER_SERVER';
const COMPILE_CACHE = 'RECLUSTER_COMPILE_CACHE';
const TELLS = 'RECLUSTER_TELLS';
const CLUSTER = 'RECLUSTER_CLUSTER';
/** The longest time that a timer can wait, in milliseconds. */
const LONGEST = 2 ** 31 - 1;

/** What the application may replace, for its tests or its logs. */
const own = (() => {
  const { setTimeout, setInterval, setImmediate, clearTimeout, Date, Map, WeakMap, Set, WeakSet } = globalThis;
  const { nextTick, send, _getActiveHandles: getHandles, versions, hrtime, memoryUsage, getActiveResourcesInfo: getActiveResources } = process;
  const major = Number.parseInt(versions.node, 10);
  const { now } = Date;
  return {
    setTimeout, setInterval, setImmediate, clearTimeout, now, nextTick, send, getHandles, major, Map, WeakMap, Set, WeakSet,
    versions, hrtime, memoryUsage, getActiveResources,
  };
})();

const define = (object, name, value) =>
  Object.defineProperty(object, name, { value, configurable: true, writable: true });

// Threads of a worker load this file as well. They have no such variable.
const variable = process.env[SETTINGS];
delete process.env[SETTINGS];
// What it leads to is run all the same.
if (process.env[SERVER] !== undefined) process.argv[1] = process.env[SERVER];
delete process.env[SERVER];
const cacheIn = process.env[COMPILE_CACHE];
delete process.env[COMPILE_CACHE];
const tells = process.env[TELLS] !== undefined;
delete process.env[TELLS];
delete process.env[CLUSTER];
hide(__filename);
if (tells) tellStderr();
const cache = cacheIn === undefined ? undefined : compileCache(cacheIn);
if (variable !== undefined) {
  const [grace, most, timeout, ...wishes] = variable.split(',');
  const span = (text) => Math.min(Number(text), LONGEST);
  const [counts, writes, isMeasured, countsRequests] = ['count', 'write', 'measure', 'requests'].map((wish) => wishes.includes(wish));
  const inherited = ['stdout', 'stderr'].filter((name) => wishes.includes(name));
  attend({ grace: span(grace), most: span(most), timeout: span(timeout), counts, writes, isMeasured, countsRequests, inherited, cache });
}

/** Takes what gives this file away out of sight: the arguments of node, and the places in the caches of modules. */
function hide(file) {
  const { execArgv } = process;
  for (const argument of [`--allow-fs-read=${file}`, `--require=${file}`]) {
    const at = execArgv.indexOf(argument);
    if (at >= 0) execArgv.splice(at, 1);
  }
  const others = process._preload_modules?.filter((name) => name !== file);
  if (others) Object.defineProperty(process, '_preload_modules', { value: others });
  const { _pathCache: paths } = module.constructor;
  for (const request of Object.keys(paths)) {
    if (paths[request] === file) delete paths[request];
  }
  delete require.cache[file];
}

function attend(settings) {
  const cluster = require('cluster');
  const { worker } = cluster;
  if (!worker) return;
  const { setTimeout, setInterval, setImmediate, now, send, WeakMap, Set, WeakSet } = own;
  const master = process.ppid;

  /** How often connections are looked at while the worker drains, in milliseconds. */
  const LOOK = 200;
  /** How long a master whose channel closed may take to be seen dead by a worker that would end at once otherwise. */
  const DEATH_THROES = 250;
  /** How often the master is told of new connections, at most, in milliseconds. */
  const COUNT = 1000;
  /** Of how many connections between two counts the master is told whether they last, at most. */
  const SAMPLE = 32;
  /** How much longer than its server keeps it an idle connection is spared. */
  const MARGIN = 1000;

  /**
   * How the worker drains: idle connections are spared for the grace, and no promise of a server extends it beyond `most`.
   * `looks` are to come in this turn of the loop.
   */
  const drain = { begun: false, grace: settings.grace, most: settings.most, looks: 0, tell, leave, sayLast: () => meter?.sayLast() };
  /** No server may begin any more. */
  let closing = false;
  /** There is no master to be told anything, or to end this worker. */
  let orphaned = false;
  /** Nor does it accept anything any more. */
  let alone = false;

  /** What the sockets of connections for a single response have as their handles. */
  const single = new WeakSet();
  /** Servers of the cluster: those that bind their own sockets, Node's disconnect does not close. */
  const clustered = new WeakSet();
  /** Since when a connection has been idle, and what it had received by then. */
  const idleSince = new WeakMap();
  let told = '';
  /** The longest time for which a server keeps idle connections, as the master knows it. */
  let keeps = 0;

  const responses = endsOfResponses(drain, single);
  const sessions = endsOfSessions(drain, closeIfIdleLong);
  const meter = settings.isMeasured ? measures({ tell, counts: settings.countsRequests }) : undefined;
  const countClustered = () => accepted().filter(({ server }) => clustered.has(server)).length;
  const goodbye = goodbyes(drain, countClustered, settings.inherited);

  // ---- what the master says

  process.prependListener('internalMessage', (message, handle) => {
    if (message?.cmd === 'NODE_RECLUSTER_DRAIN') {
      begin(message);
    } else if (message?.cmd === 'NODE_RECLUSTER_PING') {
      tell({ cmd: 'NODE_RECLUSTER_PONG' });
    } else if (message?.cmd === 'NODE_RECLUSTER_MEASURE') {
      meter?.answer();
    } else if (message?.cmd === 'NODE_RECLUSTER_FLUSH') {
      settings.cache?.flush();
    } else if (message?.cmd === 'NODE_CLUSTER' && message.act === 'disconnect') {
      closing = true;
    } else if (message?.cmd === 'NODE_CLUSTER' && message.recluster === 'close' && handle) {
      single.add(handle);
      responses.announceClose();
    }
  });

  // ---- what else begins a drain

  // A worker that leaves of its own accord is not told to: it begins here.
  const { disconnect } = worker;
  define(worker, 'disconnect', function () {
    leave();
    closing = true;
    return disconnect.call(this);
  });

  process.prependListener('disconnect', () => {
    if (worker.exitedAfterDisconnect) {
      if (drain.begun) goodbye.forgetChannel();
      return;
    }
    // The master is gone. Node would exit now, in the middle of requests. It does not exit a worker that leaves.
    worker.exitedAfterDisconnect = true;
    goodbye.forgetChannel();
    leave();
    goOnAlone();
  });

  /** Begins a drain that nobody has asked for. */
  function leave() {
    if (drain.begun) return;
    tell({ cmd: 'NODE_RECLUSTER_LEAVES' });
    begin(settings);
  }

  /** Nobody can be told anything: take what waits and nothing newer, answer what there is, and end. */
  function goOnAlone() {
    if (orphaned) return;
    orphaned = true;
    closing = true;
    setTimeout(() => process.exit(0), settings.timeout);
    emptyQueues((server) => clustered.has(server), () => {
      alone = true;
      disconnect.call(worker);
      look();
    });
  }

  // Whatever is written to a dead master fails even before its death is heard of, and nobody handles that error: it
  // would end the worker. Node looks here for what handles such errors, when there is one.
  let { _fatalException: handler } = process;
  Object.defineProperty(process, '_fatalException', {
    get: () => judge,
    set: (value) => {
      handler = value;
    },
    configurable: true,
    enumerable: true,
  });

  /** The pipes of a master are closed a moment before its children are another's. A worker that is to end can wait. */
  function masterLives() {
    const until = now() + (process.listenerCount('uncaughtException') === 0 ? DEATH_THROES : 0);
    while (process.ppid === master && now() < until) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
    return process.ppid === master;
  }

  function judge(error, ...rest) {
    const isDeaf = error?.code === 'EPIPE' || error?.code === 'ERR_IPC_CHANNEL_CLOSED';
    const handle = () => handler.call(process, error, ...rest);
    if (!isDeaf || process.hasUncaughtExceptionCaptureCallback() || masterLives()) return handle();
    try {
      process.setUncaughtExceptionCaptureCallback(() => {});
    } catch {
      // The domain module keeps this for itself.
      return handle();
    }
    const handled = handle();
    process.setUncaughtExceptionCaptureCallback(null);
    return handled;
  }

  /** Begins the drain. Whoever drains already is told again when everything stops: then the time is shorter. */
  function begin({ grace, most }) {
    drain.grace = Math.min(grace, LONGEST);
    drain.most = Math.min(most, LONGEST);
    if (drain.begun) return;
    drain.begun = true;
    if (isLoaded('http')) responses.announceClose();
    spareIdleConnections();
    forgiveClosing();
    closeWhatBeginsLate();
    look();
    // Behind a poll: a request that has arrived while the loop was busy has been read by then.
    setInterval(lookSoon, LOOK).unref();
  }

  function lookSoon() {
    drain.looks += 1;
    setImmediate(() => {
      drain.looks -= 1;
      look();
    });
  }

  function isLoaded(name) {
    return process.moduleLoadList.includes(`NativeModule ${name}`);
  }

  // ---- servers

  /** Closing a server must not cut its idle connections off: `look` closes them when the grace is over. */
  function spareIdleConnections() {
    const spare = function closeIdleConnections() {};
    if (isLoaded('http')) require('http').Server.prototype.closeIdleConnections = spare;
    if (isLoaded('https')) require('https').Server.prototype.closeIdleConnections = spare;
  }

  /** A server that Node's disconnect has closed is closed for the application, too, which did not close it itself. */
  function forgiveClosing() {
    const { prototype } = require('net').Server;
    const { close } = prototype;
    prototype.close = function (...args) {
      const [callback] = args;
      if (!this._handle && typeof callback === 'function') args[0] = () => callback.call(this);
      return close.apply(this, args);
    };
  }

  /** A server that begins when the others have been closed would never be closed. */
  function closeWhatBeginsLate() {
    const { _getServer } = cluster;
    cluster._getServer = function (server, ...rest) {
      const isLate = closing && typeof server.getConnections === 'function';
      if (isLate) server.once('listening', () => server.close());
      return _getServer.call(this, server, ...rest);
    };
  }

  const { _getServer } = cluster;
  let isToWrite = settings.writes;
  cluster._getServer = function (server, ...rest) {
    // It takes a while, in which nothing is answered, and nobody asks this worker anything before it listens.
    if (isToWrite) settings.cache?.flush();
    isToWrite = false;
    clustered.add(server);
    sessions.begins(server);
    // The application may say its keepAliveTimeout as late as when the server listens.
    if (typeof server.keepAliveTimeout === 'number') server.once('listening', () => own.nextTick(tellWhatKeeps, server));
    return _getServer.call(this, server, ...rest);
  };

  /** Tells the master for how long a server keeps idle connections, if none keeps them longer. */
  function tellWhatKeeps({ keepAliveTimeout }) {
    if (!(keepAliveTimeout > keeps)) return;
    keeps = Math.min(keepAliveTimeout, LONGEST);
    tell({ cmd: 'NODE_RECLUSTER_KEEPS', timeout: Math.ceil(keeps) });
  }

  // ---- connections

  /** Every connection that a server of ours has accepted, as the kernel knows it: under TLS, the bare one. */
  function accepted() {
    return own.getHandles.call(process).filter((handle) => handle.server && !handle.destroyed);
  }

  function look() {
    const sockets = accepted();
    const held = { connections: sockets.length, upgraded: 0, requests: 0 };
    const http = lookAtHttp(sockets, held);
    const http2 = sessions.look(sockets, held);
    for (const socket of sockets) {
      if (http.has(socket) || http2.has(socket)) continue;
      // It has not begun its TLS handshake, or it is upgraded, or what it speaks is none of our business.
      if (socket.bytesRead === 0 && isOfHttp(socket.server)) closeIfIdleLong(socket, drain.grace);
      else held.upgraded += 1;
    }
    report(held);
    goodbye.look();
    if (!process.connected && process.ppid !== master) goOnAlone();
    if (alone && sockets.length === 0) goodbye.end();
  }

  /** Closes HTTP/1 connections that have been idle for the grace; returns those that speak HTTP/1. */
  function lookAtHttp(sockets, held) {
    const known = new Set();
    for (const server of new Set(sockets.map((socket) => socket.server))) {
      const connections = bySymbol(server, 'http.server.connections');
      const idle = new Set(connections?.idle());
      endOverdue(server, connections);
      for (const { socket, incoming } of connections?.all() ?? []) {
        if (!socket) continue;
        known.add(socket).add(socket._parent);
        responses.closeBehindEvents(socket);
        const isIdle = idle.has(socket.parser) || socket.bytesRead === 0;
        if (incoming || socket._httpMessage) held.requests += 1;
        else if (isIdle) closeIfIdleLong(socket, graceOf(socket, server));
      }
    }
    for (const socket of sessions.secured) {
      known.add(socket._parent);
      if (!socket.parser) continue;
      responses.closeBehindEvents(socket);
      if (socket.parser.incoming || socket._httpMessage) held.requests += 1;
      else closeIfIdleLong(socket, graceOf(socket, socket.server));
    }
    return known;
  }

  /** How long a connection is spared: a response may have promised that it stays open for the server's keepAliveTimeout. */
  function graceOf(socket, server) {
    const isPromised = server?.keepAliveTimeout > 0 && socket.bytesRead > 0 && !socket.writableEnded;
    const promised = isPromised ? Number(server.keepAliveTimeout) + MARGIN : 0;
    return Math.max(drain.grace, Math.min(promised, drain.most));
  }

  /** A server that is closed does not enforce its own limits on requests that come slowly any more. */
  function endOverdue({ headersTimeout = 0, requestTimeout = 0 }, connections) {
    if (headersTimeout === 0 && requestTimeout === 0) return;
    for (const { socket } of connections?.expired(headersTimeout, requestTimeout) ?? []) {
      if (socket?.bytesRead > 0) socket.destroy();
    }
  }

  function closeIfIdleLong(socket, grace) {
    const before = idleSince.get(socket);
    if (before?.bytesRead !== socket.bytesRead) {
      idleSince.set(socket, { since: now(), bytesRead: socket.bytesRead });
      if (grace > 0) return;
    }
    if (now() - idleSince.get(socket).since >= grace) socket.destroy();
  }

  function report(held) {
    const message = { cmd: 'NODE_RECLUSTER_HELD', ...held };
    const text = JSON.stringify(message);
    if (text === told) return;
    told = text;
    tell(message);
  }

  function tell(message) {
    if (process.connected) send.call(process, message, undefined, undefined, () => {});
  }

  if (settings.counts) countConnections();
  // In UTF-8 it is at most three times as long.
  const reason = settings.cache?.off?.slice(0, 300);
  if (reason !== undefined) tell({ cmd: 'NODE_RECLUSTER_CACHE_OFF', reason });

  /**
   * Counts what servers of this worker have got since it began, whoever accepted it, and what they have. While something is open, it is
   * counted once a second, and told where it has changed.
   */
  function countConnections() {
    let connections = 0;
    let before = -1;
    let isDue = false;
    /** Servers that may have connections. */
    const servers = new Set();
    /** The first connections since the last count. */
    let lately = [];
    // The first versions of Node 18 have no such function: there nobody counts.
    const { subscribe } = require('diagnostics_channel');
    if (!subscribe) return;
    subscribe('net.server.socket', (message) => {
      connections += 1;
      const socket = message?.socket;
      if (socket?.server) servers.add(socket.server);
      if (socket && lately.length < SAMPLE) lately.push(socket);
      if (!isDue) countLater();
    });
    // So it is known that this worker counts.
    report();

    function countLater() {
      isDue = true;
      setTimeout(report, COUNT).unref();
    }

    function report() {
      isDue = false;
      let open = 0;
      for (const server of servers) {
        if (server._connections > 0) open += server._connections;
        else servers.delete(server);
      }
      const lasting = lately.filter((socket) => !socket.destroyed).length;
      if (lately.length > 0 || open !== before) {
        tell({ cmd: 'NODE_RECLUSTER_TAKEN', connections, open, lately: lately.length, lasting });
      }
      [lately, before] = [[], open];
      if (open > 0) countLater();
    }
  }
}

function bySymbol(object, description) {
  const symbol = Object.getOwnPropertySymbols(object).find((symbol) => symbol.description === description);
  return symbol && object[symbol];
}

function isOfHttp(server) {
  return isOfHttp2(server) || bySymbol(server, 'http.server.connections') !== undefined;
}

function isOfHttp2(server) {
  return typeof server.updateSettings === 'function';
}
