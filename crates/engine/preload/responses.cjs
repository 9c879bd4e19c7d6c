// Part of the preload, behind drain.cjs: how responses end their connections.

/**
 * What is written of a response's head, and what becomes of the connection behind the response. `drain` is the drain's
 * state; `single` holds the handles of connections for a single response.
 */
function endsOfResponses(drain, single) {
  const { setTimeout, clearTimeout, WeakSet } = own;
  /** Responses in progress that were looked at. */
  const seen = new WeakSet();
  const held = heldResponses();
  let announces = false;

  return { announceClose, closeBehindEvents };

  /**
   * From now on the last response of a connection says that it is. Node sends a head when the response has the connection
   * (`_send`), or, if it is answered before its turn, when it gets the connection (`_flush`).
   */
  function announceClose() {
    if (announces) return;
    announces = true;
    const { prototype } = require('http').ServerResponse;
    const { _send, _writeRaw, _flush } = prototype;
    prototype._send = function (...args) {
      if (!this._headerSent && this._header && this.socket?._httpMessage === this) weigh(this, _flush);
      return _send.apply(this, args);
    };
    prototype._writeRaw = function (...args) {
      return held.has(this) ? held.keep(this, _writeRaw, args) : _writeRaw.apply(this, args);
    };
    prototype._flush = function () {
      if (indexOfHead(this) >= 0) weigh(this, _flush);
      if (!held.has(this)) _flush.call(this);
    };
  }

  /** The head of a response is about to be sent. It is held back if the response may be the last one. */
  function weigh(response, flush) {
    const { req, socket } = response;
    if (!drain.begun && !single.has(socket?._handle)) return;
    // What no parser of Node's reads is a connection that the application made up.
    if (response.statusCode < 200 || !socket?.parser || hasMore(socket, req)) return;
    // Node closes the connection itself behind a response that is the last one anyway.
    if (response._last) return sayClose(response);
    held.hold(response, (isLast) => {
      if (isLast) {
        sayClose(response);
        listenNoMore(socket, req);
        response.once('finish', () => closeBehind(socket, req));
      }
      flush.call(response);
    });
  }

  /**
   * A client of server-sent events comes back when they end, on the same connection if that is open, and would hold the
   * worker again. Their head was sent before the drain and does not say that the connection closes.
   */
  function closeBehindEvents({ _httpMessage: response }) {
    if (!response?._header || seen.has(response)) return;
    seen.add(response);
    if (response._last || !/\r\ncontent-type:[ \t]*text\/event-stream[ \t]*[;\r]/i.test(response._header)) return;
    const { socket, req } = response;
    response.once('finish', () => closeBehind(socket, req));
  }

  /**
   * Closes a connection behind its last response: our end at once, the client's when the client does so, or when the
   * connection has been idle for the grace, or, outside of a drain, when the grace is over. To close at once would reset the
   * connection, and the client might lose the response.
   */
  function closeBehind(socket, request) {
    if (socket.destroyed || socket._httpMessage || hasMore(socket, request)) return;
    if (!request.complete) {
      request.once('end', () => closeBehind(socket, request));
      destroyLater(socket);
      return;
    }
    listenNoMore(socket, request);
    socket.end();
    if (!drain.begun) destroyLater(socket);
  }

  /** Whoever has been told that the connection closes expects no more requests to be served: what comes is read and dropped. */
  function listenNoMore(socket, request) {
    if (!request.complete) {
      const { parser } = socket;
      parser.onIncoming = () => {
        parser.incoming = null;
        return 0;
      };
      return;
    }
    const listeners = socket.listeners('data');
    socket.on('data', () => {});
    for (const listener of listeners) socket.removeListener('data', listener);
    socket.resume();
  }

  function destroyLater(socket) {
    const late = setTimeout(() => socket.destroy(), drain.grace);
    late.unref();
    socket.once('close', () => clearTimeout(late));
  }
}

/** Whether another request has been received behind this one (pipelining): then this is not the last response. */
function hasMore(socket, request) {
  const latest = socket.parser?.incoming;
  return Boolean(latest) && latest !== request;
}

/** Where the head of a response is in what it has to send. */
function indexOfHead({ _header: head, outputData }) {
  return head ? outputData.findIndex(({ data }) => typeof data === 'string' && data.startsWith(head)) : -1;
}

/** Has a response whose head is not sent yet say that its connection closes. */
function sayClose(response) {
  const { _header: head } = response;
  const entry = response.outputData[indexOfHead(response)];
  response._header = withClose(head);
  if (entry) entry.data = response._header + entry.data.slice(head.length);
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
