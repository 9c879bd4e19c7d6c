// Part of the preload, behind drain.cjs: what waits in the queues of listening sockets that nobody has but this worker, since its master has
// died. To their clients these connections are open, and the kernel resets them when the socket is closed.

/** For how long it accepts, in ms: under load something always waits, and the next master waits for the address. */
const EMPTIES = 1000;

/**
 * Accepts until a turn of the event loop has brought no connection, or as many have come as a queue holds, or for a second, and then calls
 * `close`. Without such sockets that is at once.
 */
function emptyQueues(isOurs, close) {
  const { setImmediate, getHandles, now } = own;
  /** What Linux has as the longest queue, unless it is told otherwise (`net.core.somaxconn`). Some versions of Node take one in each turn. */
  const most = 4096;
  const since = now();
  let taken = 0;
  const sockets = getHandles.call(process).filter((server) => isOurs(server) && server._handle?.onconnection).map(({ _handle }) => _handle);
  if (sockets.length === 0) {
    close();
    return;
  }
  for (const socket of sockets) {
    const { onconnection } = socket;
    socket.onconnection = function (...args) {
      taken += 1;
      return onconnection.apply(this, args);
    };
  }
  const look = (before) => {
    if (taken === before || taken >= most || now() - since >= EMPTIES) close();
    else turn();
  };
  const turn = () => {
    const before = taken;
    // The second one comes behind a whole look at what the kernel has.
    setImmediate(() => setImmediate(look, before));
  };
  turn();
}
