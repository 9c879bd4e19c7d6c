// Part of the preload, behind drain.cjs: how HTTP/2 sessions end.

/** Tells HTTP/2 sessions to go away. `closeIfIdleLong` closes what is left of those that are over. */
function endsOfSessions(drain, closeIfIdleLong) {
  const { setTimeout, setImmediate, clearTimeout, now, Map, Set } = own;
  /** How long a session may be watched for the best moment to end it, in milliseconds. */
  const WATCH = 1000;
  // Node lists neither the sessions of an HTTP/2 server (below 24) nor its HTTP/1 connections (below 20).
  const sessions = new Set();
  const secured = new Set();
  /** Sessions that are to end: on which connection, and whether the client was told. */
  const farewells = new Map();

  return { secured, begins, look };

  /** A server asks for its socket: what Node will not list is listed here. */
  function begins(server) {
    if (own.major >= 24 || !isOfHttp2(server)) return;
    server.on('session', (session) => keep(sessions, session));
    if (own.major < 20) server.on('secureConnection', (socket) => keep(secured, socket));
  }

  function keep(set, item) {
    set.add(item);
    item.once('close', () => set.delete(item));
  }

  /** Says farewell to sessions, and closes what is left of those that are over; returns their connections. */
  function look(sockets, held) {
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
      if (session.destroyed) closeIfIdleLong(socket, drain.grace);
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
    const patience = Math.min(WATCH, drain.grace);
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
}
