// Part of the preload, behind drain.cjs: which response is the last one of a connection whose client does not wait for
// answers (pipelining).
//
// A handler may answer while the parser of Node has seen no more than its own request, though the next one is in the same
// packet. A client that reads `Connection: close` then would take the others for lost. So a response that may be the last
// one is held back until what has arrived has been read: until the next request, the client's end, or a turn of the event
// loop.

/** Responses of which it is not known yet whether they are the last ones. */
function heldResponses() {
  const { setTimeout, setImmediate, clearTimeout, Map, Set, WeakSet } = own;
  /** How long a whole response waits for the rest of its request, in milliseconds: more requests may be behind that. */
  const PATIENCE = 1000;
  const held = new WeakSet();
  /** How to let go of each. */
  const releases = new Set();
  /** What is to be done behind the next poll but one. */
  let waiting = [];

  return { has: (response) => held.has(response), hold, keep };

  /** Holds a response that has the connection. `letGo` is told whether it is the last one, and sends it. */
  function hold(response, letGo) {
    const { req: request, socket } = response;
    const { parser } = socket;
    const { onIncoming } = parser;
    let late;
    held.add(response);
    parser.onIncoming = next;
    socket.prependListener('end', ended);
    const leaveAlone = beforeItCloses(socket, sendNow);
    if (releases.size === 0) process.prependListener('exit', sendAll);
    releases.add(sendNow);
    goOnReading(socket);
    afterReading(settle);

    function settle(begun) {
      if (!held.has(response)) return;
      if (request.complete || socket.destroyed) return release(!hasBegunAnother(begun));
      if (!response.finished) return release(!socket.isPaused());
      // Node drops what nobody reads of a request behind its response.
      if (!request._consuming) request._dump();
      if (late) return;
      request.once('end', () => afterReading(settle));
      late = setTimeout(release, PATIENCE, true);
      late.unref();
    }

    function next(...args) {
      release(false);
      return onIncoming.apply(this, args);
    }

    /** The application closes the connection, or writes to it, or ends: the response goes out before. */
    function sendNow() {
      release(false);
    }

    function ended() {
      release(request.complete && !hasBegunAnother(begunRequests()));
    }

    /** Whether there is more of the client than this request, be it the first byte of a head. */
    function hasBegunAnother(begun) {
      return socket.parser !== parser || hasMore(socket, request) || begun(socket.server).has(parser);
    }

    function release(isLast) {
      if (!held.delete(response)) return;
      clearTimeout(late);
      if (parser.onIncoming === next) parser.onIncoming = onIncoming;
      socket.removeListener('end', ended);
      leaveAlone();
      releases.delete(sendNow);
      if (releases.size === 0) process.removeListener('exit', sendAll);
      letGo(isLast && !socket.destroyed);
    }
  }

  function sendAll() {
    for (const sendNow of releases) sendNow();
  }

  /** Does something before whatever is written to a socket, or ends it. Returns how to have that undone. */
  function beforeItCloses(socket, act) {
    const names = ['write', 'end', 'destroySoon', 'destroy'];
    const before = names.map((name) => [name, Object.getOwnPropertyDescriptor(socket, name)]);
    for (const name of names) {
      define(socket, name, function (...args) {
        act();
        return this[name](...args);
      });
    }
    return () => {
      for (const [name, descriptor] of before) {
        if (descriptor) Object.defineProperty(socket, name, descriptor);
        else delete socket[name];
      }
    };
  }

  /** Writes for a response that is held: into its own buffer, as Node does for one whose turn has not come. */
  function keep(response, write, args) {
    const { socket } = response;
    if (socket._httpMessage !== response) return write.apply(response, args);
    socket._httpMessage = null;
    try {
      return write.apply(response, args);
    } finally {
      socket._httpMessage = response;
    }
  }

  /** Behind a whole poll: what has arrived until now has been read by then. All that waits for the same one looks once. */
  function afterReading(then) {
    waiting.push(then);
    if (waiting.length > 1) return;
    setImmediate(() => {
      const begun = begunRequests();
      // Each by itself: a listener of the application may throw.
      for (const settle of waiting) setImmediate(settle, begun);
      waiting = [];
    });
  }

  /** The parsers of a server that are in the middle of a request, as they are when this is asked first. */
  function begunRequests() {
    const known = new Map();
    return (server) => {
      if (!known.has(server)) {
        const connections = bySymbol(server, 'http.server.connections');
        known.set(server, new Set(connections?.active()));
      }
      return known.get(server);
    };
  }

  /** Node stops reading where too much waits to be written. What waits here waits for what is read. */
  function goOnReading(socket) {
    if (!socket._paused) return;
    socket._paused = false;
    socket.parser.resume();
    socket.resume();
  }
}
