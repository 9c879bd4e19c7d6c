// Loaded into every Node worker before the application (`node --require`). Until the worker is let go it does nothing.
// From then on it sees to it that no client loses a request:
//
// - a response whose head is still to be sent says `Connection: close`, and its connection is closed behind it;
// - an idle connection stays open for a grace, so that a request already on its way is answered, and then is closed;
// - an HTTP/2 session is told to go away, and finishes its streams;
// - when the master has died, the worker answers what it has, and ends.
//
// Upgraded connections (WebSocket) and other protocols are the application's own: nothing here touches them.
// Nothing is visible to the application: no global, no argument, no variable; no function is wrapped before the drain
// but `cluster.worker.disconnect` and, below Node 24, `cluster._getServer`.

'use strict';

const SETTINGS = 'RECLUSTER_DRAIN';

// Threads and child processes of a worker have no such variable, and are none of our business.
if (process.env[SETTINGS] !== undefined) {
  const [grace, timeout] = process.env[SETTINGS].split(',').map(Number);
  delete process.env[SETTINGS];
  hide(__filename);
  attend({ grace, timeout });
}

/** Takes what gave this file away out of sight: the argument of node, and the place in the cache of modules. */
function hide(file) {
  const argument = process.execArgv.indexOf(`--require=${file}`);
  if (argument >= 0) process.execArgv.splice(argument, 1);
  const others = process._preload_modules?.filter((name) => name !== file);
  if (others) Object.defineProperty(process, '_preload_modules', { value: others });
  delete require.cache[file];
}

function attend(settings) {
  const cluster = require('cluster');
  const { worker } = cluster;
  if (!worker) return;
  // The application may replace any of these, for its tests or its logs.
  const { setTimeout, setInterval, Date, WeakMap, Set } = globalThis;
  const { now } = Date;
  const send = process.send;
  const major = Number.parseInt(process.versions.node, 10);
  const master = process.ppid;
  const define = (object, name, value) =>
    Object.defineProperty(object, name, { value, configurable: true, writable: true });

  /** How often connections are looked at while the worker drains, in milliseconds. */
  const LOOK = 200;
  /** How long clients of HTTP/2 are given to hear that they are to open no more streams: more than a round trip. */
  const ROUND_TRIP = 500;
  /** How long a client is given to close its end, after the last response, before the connection is reset. */
  const LINGER = 2000;
  /** How long a master whose channel closed may take to be seen dead. */
  const DYING = 300;
  /** The greatest stream: no stream is refused yet (RFC 9113, section 6.8). */
  const ANY_STREAM = 2 ** 31 - 1;

  let draining = false;
  let grace = settings.grace;
  /** No server may begin any more. */
  let closing = false;
  /** The channel is gone, and so is the master. */
  let orphaned = false;

  // ---- what begins a drain

  process.prependListener('internalMessage', (message) => {
    if (message?.cmd === 'NODE_RECLUSTER_DRAIN') {
      begin(message.grace);
    } else if (message?.cmd === 'NODE_CLUSTER' && message.act === 'disconnect') {
      closing = true;
      if (draining) spareIdleConnections();
    }
  });

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
    // Whoever reads our output may be gone as well.
    for (const name of ['stdout', 'stderr']) process[name].on('error', () => {});
    disconnect.call(worker);
    setTimeout(() => process.exit(0), settings.timeout);
    look();
  }

  /** What uses a channel that is closed would end the worker by an error. */
  function forgetChannel() {
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
    grace = patience;
    if (isLoaded('http')) announceClose(require('http').ServerResponse.prototype);
    spareIdleConnections();
    closeWhatBeginsLate();
    look();
    setInterval(look, LOOK).unref();
  }

  function isLoaded(name) {
    return process.moduleLoadList.includes(`NativeModule ${name}`);
  }

  // ---- responses

  function announceClose(prototype) {
    const { _storeHeader } = prototype;
    prototype._storeHeader = function (firstLine, headers) {
      _storeHeader.call(this, firstLine, headers);
      const socket = this.req?.socket;
      // Node closes the connection behind a response that is the last one anyway.
      if (this._last || this.statusCode < 200 || !socket || hasMore(socket, this.req)) return;
      this._header = withClose(this._header);
      this.once('finish', () => closeBehind(socket, this.req));
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
   * Closes a connection behind its last response: our end at once, the client's when the client does so. What it still
   * sends is read and dropped; to close at once would reset the connection, and the client might lose the response.
   */
  function closeBehind(socket, request) {
    if (socket.destroyed || socket._httpMessage || hasMore(socket, request)) return;
    if (!request.complete) {
      request.once('end', () => closeBehind(socket, request));
      setTimeout(() => socket.destroy(), grace).unref();
      return;
    }
    const listeners = socket.listeners('data');
    socket.on('data', () => {});
    for (const listener of listeners) socket.removeListener('data', listener);
    socket.resume();
    socket.end();
    const late = setTimeout(() => socket.destroy(), LINGER);
    late.unref();
    socket.once('close', () => clearTimeout(late));
  }

  // ---- servers

  /** Closing a server must not cut its idle connections off: `look` closes them when the grace is over. */
  function spareIdleConnections() {
    const spare = function closeIdleConnections() {};
    if (isLoaded('http')) require('http').Server.prototype.closeIdleConnections = spare;
    if (isLoaded('https')) require('https').Server.prototype.closeIdleConnections = spare;
    for (const { server } of accepted()) {
      if (Object.hasOwn(server, 'closeIdleConnections')) define(server, 'closeIdleConnections', spare);
    }
  }

  /** A server that begins when the others have been closed would never be closed. */
  function closeWhatBeginsLate() {
    const { _getServer } = cluster;
    cluster._getServer = function (server, ...rest) {
      if (closing) server.once('listening', () => server.close());
      return _getServer.call(this, server, ...rest);
    };
  }

  // Node lists neither the sessions of an HTTP/2 server (below 24) nor its HTTP/1 connections (below 20).
  const sessions = new Set();
  const secured = new Set();
  if (major < 24) {
    const { _getServer } = cluster;
    cluster._getServer = function (server, ...rest) {
      if (typeof server.updateSettings === 'function') {
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
  let told = '';

  /** Every connection that a server of ours has accepted, as the kernel knows it: under TLS, the bare one. */
  function accepted() {
    return getHandles.call(process).filter((handle) => handle.server && !handle.destroyed && handle.remoteFamily !== null);
  }

  function look() {
    const sockets = accepted();
    const held = { connections: sockets.length, upgraded: 0, requests: 0 };
    const http = lookAtHttp(sockets, held);
    const http2 = lookAtHttp2(sockets, held);
    for (const socket of sockets) {
      if (http.has(socket) || http2.has(socket) || !hasSymbol(socket.server, 'http.server.connections')) continue;
      // It is upgraded, or in the middle of its TLS handshake.
      if (socket.bytesRead === 0) closeIfIdleLong(socket);
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

  function closeIfIdleLong(socket) {
    const before = idleSince.get(socket);
    if (before?.bytesRead !== socket.bytesRead) {
      idleSince.set(socket, { since: now(), bytesRead: socket.bytesRead });
      if (grace > 0) return;
    }
    if (now() - idleSince.get(socket).since >= grace) socket.destroy();
  }

  /** Says farewell to HTTP/2 sessions; returns the connections that they run on. */
  function lookAtHttp2(sockets, held) {
    const known = new Set();
    const all = new Set(sessions);
    for (const server of new Set(sockets.map((socket) => socket.server))) {
      for (const session of bySymbol(server, 'sessions') ?? []) all.add(session);
    }
    for (const session of all) {
      if (session.destroyed) continue;
      const socket = bySymbol(session, 'socket') ?? bySymbol(session, 'kSocket');
      if (socket) known.add(socket).add(socket._parent);
      held.requests += bySymbol(session, 'state')?.streams?.size ?? 0;
      farewell(session);
    }
    return known;
  }

  /** First that no new stream is welcome, and only after a round trip which was the last: so that none is refused. */
  function farewell(session) {
    if (session.closed || Object.hasOwn(session, 'close')) return;
    session.goaway(0, ANY_STREAM);
    define(session, 'close', (callback) => {
      if (typeof callback === 'function') session.once('close', callback);
    });
    setTimeout(() => {
      delete session.close;
      session.close();
    }, Math.min(ROUND_TRIP, grace)).unref();
  }

  function report(held) {
    const message = { cmd: 'NODE_RECLUSTER_HELD', ...held };
    const text = JSON.stringify(message);
    if (!process.connected || text === told) return;
    told = text;
    send.call(process, message, undefined, undefined, () => {});
  }

  function bySymbol(object, description) {
    const symbol = Object.getOwnPropertySymbols(object).find((symbol) => symbol.description === description);
    return symbol && object[symbol];
  }

  function hasSymbol(object, description) {
    return bySymbol(object, description) !== undefined;
  }
}
