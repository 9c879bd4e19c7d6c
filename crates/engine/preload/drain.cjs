// Loaded into every Node worker before the application (`node --require`). Until the worker is let go it does next
// to nothing. From then on it sees to it that no client loses a request:
//
// - a response whose head is still to be sent says `Connection: close`, and its connection is closed behind it;
// - an idle connection stays open for a grace, so that a request already on its way is answered, and then is closed;
// - an HTTP/2 session is told to go away, and finishes its streams;
// - when the master has died, the worker answers what it has, and ends.
//
// At any time, where the master wants it:
//
// - a connection that it chose this worker for by what its first request says is closed behind the response, as in a
//   drain: whoever reuses the connection (a proxy does) may send another client's request next;
// - connections are counted, which a master does not see where workers accept by themselves.
//
// Upgraded connections (WebSocket) and other protocols are the application's own: nothing here touches them.
// Nothing is visible to the application: no global, no argument, no variable; nothing is wrapped before the drain but
// `cluster.worker.disconnect`, `process._fatalException` and, below Node 24, `cluster._getServer`; and from the first
// connection for a single response on, `http.ServerResponse.prototype._storeHeader`. Who counts connections is a
// subscriber of the diagnostics channel `net.server.socket`.

'use strict';

const SETTINGS = 'RECLUSTER_DRAIN';
/** The longest time that a timer can wait, in milliseconds. */
const LONGEST = 2 ** 31 - 1;

// Threads of a worker load this file as well. They have no such variable.
const variable = process.env[SETTINGS];
delete process.env[SETTINGS];
hide(__filename);
if (variable !== undefined) {
  const [grace, timeout, ...wishes] = variable.split(',');
  const span = (text) => Math.min(Number(text), LONGEST);
  attend({ grace: span(grace), timeout: span(timeout), counts: wishes.includes('count') });
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
  // The application may replace any of these, for its tests or its logs.
  const { setTimeout, setInterval, setImmediate, clearTimeout, Date, Map, WeakMap, Set, WeakSet } = globalThis;
  const { now } = Date;
  const send = process.send;
  const major = Number.parseInt(process.versions.node, 10);
  const master = process.ppid;
  const define = (object, name, value) =>
    Object.defineProperty(object, name, { value, configurable: true, writable: true });

  /** How often connections are looked at while the worker drains, in milliseconds. */
  const LOOK = 200;
  /** How long an HTTP/2 session may be watched for the best moment to end it, in milliseconds. */
  const WATCH = 1000;
  /** How long a master whose channel closed may take to be seen dead. */
  const DYING = 300;
  /** The same, for a worker that would end at once otherwise. */
  const DEATH_THROES = 20;
  /** How often the master is told of new connections, at most, in milliseconds. */
  const COUNT = 1000;

  let draining = false;
  let grace = settings.grace;
  /** No server may begin any more. */
  let closing = false;
  /** The channel is gone, and so is the master. */
  let orphaned = false;

  /** What the sockets of connections for a single response have as their handles. */
  const single = new WeakSet();

  // ---- what the master says

  process.prependListener('internalMessage', (message, handle) => {
    if (message?.cmd === 'NODE_RECLUSTER_DRAIN') {
      begin(message.grace);
    } else if (message?.cmd === 'NODE_CLUSTER' && message.act === 'disconnect') {
      closing = true;
    } else if (message?.cmd === 'NODE_CLUSTER' && message.recluster === 'close' && handle) {
      single.add(handle);
      announceClose();
    }
  });

  // ---- what else begins a drain

  // A worker that leaves of its own accord is not told to: it begins here.
  const { disconnect } = worker;
  define(worker, 'disconnect', function () {
    begin(settings.grace);
    closing = true;
    return disconnect.call(this);
  });

  process.prependListener('disconnect', () => {
    if (worker.exitedAfterDisconnect) {
      if (draining) forgetChannel();
      return;
    }
    // Node would exit now, in the middle of requests. It does not exit a worker that leaves.
    worker.exitedAfterDisconnect = true;
    forgetChannel();
    begin(settings.grace);
    closing = true;
    disconnect.call(worker);
    expectOrphanhood(now() + DYING);
  });

  /** The channel closed unasked. If the master lives, it or the application wanted that: exit, as Node does. */
  function expectOrphanhood(until) {
    if (process.ppid !== master) outlive();
    else if (now() >= until) process.exit(0);
    else setTimeout(expectOrphanhood, 10, until);
  }

  /** The master is dead: take nothing new, answer what there is, and end. */
  function outlive() {
    if (orphaned) return;
    orphaned = true;
    closing = true;
    disconnect.call(worker);
    setTimeout(() => process.exit(0), settings.timeout);
    look();
  }

  // Whatever is written to a dead master fails even before its death is heard of, and nobody handles that error: it
  // would end the worker. Node looks here for what handles such errors, when there is one.
  let { _fatalException: handler } = process;
  Object.defineProperty(process, '_fatalException', {
    get: () => (masterLives() ? handler : forgive),
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

  function forgive(error, ...rest) {
    const handle = () => handler.call(process, error, ...rest);
    const isDeaf = error?.code === 'EPIPE' || error?.code === 'ERR_IPC_CHANNEL_CLOSED';
    if (!isDeaf || process.hasUncaughtExceptionCaptureCallback()) return handle();
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

  /** What talks to a master that is gone would end the worker by an error. */
  function forgetChannel() {
    for (const name of ['stdout', 'stderr']) process[name].on('error', () => {});
    define(process, 'disconnect', () => {});
    define(process, 'send', (...args) => {
      const callback = args.at(-1);
      const error = Object.assign(new Error('Channel closed'), { code: 'ERR_IPC_CHANNEL_CLOSED' });
      if (typeof callback === 'function') process.nextTick(callback, error);
      return false;
    });
  }

  function begin(patience) {
    if (draining) return;
    draining = true;
    grace = Math.min(patience, LONGEST);
    if (isLoaded('http')) announceClose();
    spareIdleConnections();
    closeWhatBeginsLate();
    look();
    // Behind a poll: a request that has arrived while the loop was busy has been read by then.
    setInterval(() => setImmediate(look), LOOK).unref();
  }

  function isLoaded(name) {
    return process.moduleLoadList.includes(`NativeModule ${name}`);
  }

  // ---- responses

  let announces = false;

  function announceClose() {
    if (announces) return;
    announces = true;
    const { prototype } = require('http').ServerResponse;
    const { _storeHeader } = prototype;
    prototype._storeHeader = function (firstLine, headers) {
      _storeHeader.call(this, firstLine, headers);
      const socket = this.req?.socket;
      if (!draining && !single.has(socket?._handle)) return;
      // What no parser of Node's reads is a connection that the application made up.
      if (this.statusCode < 200 || !socket?.parser || hasMore(socket, this.req)) return;
      this._header = withClose(this._header);
      // Node closes the connection itself behind a response that was the last one anyway.
      if (!this._last) this.once('finish', () => closeBehind(socket, this.req));
    };
  }

  /** Whether another request has been received behind this one (pipelining): then this is not the last response. */
  function hasMore(socket, request) {
    const latest = socket.parser?.incoming;
    return Boolean(latest) && latest !== request;
  }

  /** The head of a response, with `Connection: close` in the place of whatever keeps the connection. */
  function withClose(head) {
    const tokens = ['close'];
    const rest = head.replace(/\r\n(connection|keep-alive):([^\r\n]*)/gi, (_, name, value) => {
      if (name.toLowerCase() === 'connection') {
        tokens.push(...value.split(',').map((token) => token.trim()));
      }
      return '';
    });
    const others = tokens.filter((token, at) => at === 0 || (token && !/^(keep-alive|close)$/i.test(token)));
    return `${rest.slice(0, -2)}Connection: ${others.join(', ')}\r\n\r\n`;
  }

  /**
   * Closes a connection behind its last response: our end at once, the client's when the client does so, or when the
   * connection has been idle for the grace, or, outside of a drain, when the grace is over. What the client still sends is
   * read and dropped; to close at once would reset the connection, and the client might lose the response.
   */
  function closeBehind(socket, request) {
    if (socket.destroyed || socket._httpMessage || hasMore(socket, request)) return;
    if (!request.complete) {
      request.once('end', () => closeBehind(socket, request));
      destroyLater(socket);
      return;
    }
    const listeners = socket.listeners('data');
    socket.on('data', () => {});
    for (const listener of listeners) socket.removeListener('data', listener);
    socket.resume();
    socket.end();
    if (!draining) destroyLater(socket);
  }

  function destroyLater(socket) {
    const late = setTimeout(() => socket.destroy(), grace);
    late.unref();
    socket.once('close', () => clearTimeout(late));
  }

  // ---- servers

  /** Closing a server must not cut its idle connections off: `look` closes them when the grace is over. */
  function spareIdleConnections() {
    const spare = function closeIdleConnections() {};
    if (isLoaded('http')) require('http').Server.prototype.closeIdleConnections = spare;
    if (isLoaded('https')) require('https').Server.prototype.closeIdleConnections = spare;
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

  // Node lists neither the sessions of an HTTP/2 server (below 24) nor its HTTP/1 connections (below 20).
  const sessions = new Set();
  const secured = new Set();
  if (major < 24) {
    const { _getServer } = cluster;
    cluster._getServer = function (server, ...rest) {
      if (isOfHttp2(server)) {
        server.on('session', (session) => keep(sessions, session));
        if (major < 20) server.on('secureConnection', (socket) => keep(secured, socket));
      }
      return _getServer.call(this, server, ...rest);
    };
  }

  function keep(set, item) {
    set.add(item);
    item.once('close', () => set.delete(item));
  }

  // ---- connections

  const getHandles = process._getActiveHandles;
  /** Since when a connection has been idle, and what it had received by then. */
  const idleSince = new WeakMap();
  /** HTTP/2 sessions that are to end: on which connection, and whether the client was told. */
  const farewells = new Map();
  let told = '';

  /** Every connection that a server of ours has accepted, as the kernel knows it: under TLS, the bare one. */
  function accepted() {
    return getHandles.call(process).filter((handle) => handle.server && !handle.destroyed);
  }

  function look() {
    const sockets = accepted();
    const held = { connections: sockets.length, upgraded: 0, requests: 0 };
    const http = lookAtHttp(sockets, held);
    const http2 = lookAtHttp2(sockets, held);
    for (const socket of sockets) {
      if (http.has(socket) || http2.has(socket)) continue;
      // It has not begun its TLS handshake, or it is upgraded, or what it speaks is none of our business.
      if (socket.bytesRead === 0 && isOfHttp(socket.server)) closeIfIdleLong(socket);
      else held.upgraded += 1;
    }
    report(held);
    if (!orphaned && !process.connected && process.ppid !== master) outlive();
    if (orphaned && sockets.length === 0) process.exit(0);
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
        const isIdle = idle.has(socket.parser) || socket.bytesRead === 0;
        if (incoming || socket._httpMessage) held.requests += 1;
        else if (isIdle) closeIfIdleLong(socket);
      }
    }
    for (const socket of secured) {
      known.add(socket._parent);
      if (!socket.parser) continue;
      if (socket.parser.incoming || socket._httpMessage) held.requests += 1;
      else closeIfIdleLong(socket);
    }
    return known;
  }

  /** A server that is closed does not enforce its own limits on requests that come slowly any more. */
  function endOverdue({ headersTimeout = 0, requestTimeout = 0 }, connections) {
    if (headersTimeout === 0 && requestTimeout === 0) return;
    for (const { socket } of connections?.expired(headersTimeout, requestTimeout) ?? []) {
      if (socket?.bytesRead > 0) socket.destroy();
    }
  }

  function closeIfIdleLong(socket) {
    const before = idleSince.get(socket);
    if (before?.bytesRead !== socket.bytesRead) {
      idleSince.set(socket, { since: now(), bytesRead: socket.bytesRead });
      if (grace > 0) return;
    }
    if (now() - idleSince.get(socket).since >= grace) socket.destroy();
  }

  /** Says farewell to HTTP/2 sessions, and closes what is left of those that are over; returns their connections. */
  function lookAtHttp2(sockets, held) {
    const all = new Set(sessions);
    for (const server of new Set(sockets.map((socket) => socket.server))) {
      for (const session of bySymbol(server, 'sessions') ?? []) all.add(session);
    }
    for (const session of all) {
      const socket = bySymbol(session, 'socket');
      if (socket && !session.destroyed && !farewells.has(session)) farewell(session, socket);
    }
    const known = new Set();
    for (const [session, ending] of farewells) {
      const { socket } = ending;
      known.add(socket).add(socket._parent);
      const open = streamsOf(session).size;
      held.requests += open;
      if (session.destroyed) closeIfIdleLong(socket);
      // Not at once: Node 18 may have the end of the last stream still to send.
      else if (ending.said && open === 0) setImmediate(close, session);
      if (socket.destroyed) farewells.delete(session);
    }
    return known;
  }

  function close(session) {
    delete session.close;
    session.close();
  }

  function streamsOf(session) {
    return bySymbol(session, 'state').streams;
  }

  /**
   * Tells a client to go away. What it opens behind the stream that GOAWAY names is not served, and for Node that is
   * the last one that has arrived. So it is said when nothing is likely to be on its way: when a stream arrives and no
   * more were ever open, since most clients wait for an answer then; or when the client has been quiet.
   */
  function farewell(session, socket) {
    const ending = { socket, said: false };
    farewells.set(session, ending);
    const patience = Math.min(WATCH, grace);
    const watched = now() + patience / 2;
    let most = 0;
    const say = () => {
      clearTimeout(late);
      session.removeListener('stream', arrived);
      if (!session.destroyed) session.goaway();
      ending.said = true;
    };
    const arrived = () => {
      const open = streamsOf(session).size;
      if (open >= most && now() >= watched) say();
      most = Math.max(most, open);
    };
    const late = setTimeout(say, patience);
    late.unref();
    session.prependListener('stream', arrived);
    // From Node 24 on a server that is closed says GOAWAY itself, at once.
    define(session, 'close', (callback) => {
      if (typeof callback === 'function') session.once('close', callback);
    });
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

  /** Counts what servers of this worker have got since it began, whoever accepted it. */
  function countConnections() {
    let connections = 0;
    let isDue = false;
    const report = () => {
      isDue = false;
      tell({ cmd: 'NODE_RECLUSTER_TAKEN', connections });
    };
    // The first versions of Node 18 have no such function: there nobody counts.
    require('diagnostics_channel').subscribe?.('net.server.socket', () => {
      connections += 1;
      if (isDue) return;
      isDue = true;
      setTimeout(report, COUNT).unref();
    });
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
}
