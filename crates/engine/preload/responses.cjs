// Part of the preload, behind drain.cjs: how responses end their connections.

/**
 * What is written of a response's head, and what becomes of the connection behind the response. `drain` is the drain's
 * state; `single` holds the handles of connections for a single response.
 */
function endsOfResponses(drain, single) {
  const { setTimeout, clearTimeout, WeakSet } = own;
  /** Responses in progress that were looked at. */
  const seen = new WeakSet();
  let announces = false;

  return { announceClose, closeBehindEvents };

  function announceClose() {
    if (announces) return;
    announces = true;
    const { prototype } = require('http').ServerResponse;
    const { _storeHeader } = prototype;
    prototype._storeHeader = function (firstLine, headers) {
      _storeHeader.call(this, firstLine, headers);
      const socket = this.req?.socket;
      if (!drain.begun && !single.has(socket?._handle)) return;
      // What no parser of Node's reads is a connection that the application made up.
      if (this.statusCode < 200 || !socket?.parser || hasMore(socket, this.req)) return;
      this._header = withClose(this._header);
      // Node closes the connection itself behind a response that was the last one anyway.
      if (!this._last) this.once('finish', () => closeBehind(socket, this.req));
    };
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
    if (!drain.begun) destroyLater(socket);
  }

  function destroyLater(socket) {
    const late = setTimeout(() => socket.destroy(), drain.grace);
    late.unref();
    socket.once('close', () => clearTimeout(late));
  }
}
