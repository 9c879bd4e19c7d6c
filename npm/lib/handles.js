'use strict';

// Sockets and servers that travel with messages: to the engine as a descriptor and a word for what it is, and back.

const dgram = require('dgram');
const fs = require('fs');
const net = require('net');

const { wrongHandle } = require('./errors');
const { thrown } = require('./faults');

/** Node's own handles, by the names of their classes, which are not to be had otherwise. */
const NATIVE = { TCP: 'net.Native', Pipe: 'net.Native', UDP: 'dgram.Native' };

/** One worker may have this part of the host's descriptors, all of them together have that one, and each has its share of it. */
const PART = 8;
const PART_OF_ALL = 2;
/** The limit on descriptors where it cannot be read. */
const USUAL_OPEN_FILES = 1024;
let limit;
/** How many workers live, and how many sockets are open here that workers have sent. Those of dead ones are still the host's. */
let workers = 0;
let open = 0;

/**
 * What is sent of something that Node can send: a copy of its descriptor will be made.
 * @returns {{kind: string, fd: number} | null} null if it has been closed, or sent already
 */
function pack(handle) {
  if (handle instanceof net.Socket) return described('net.Socket', handle._handle);
  if (handle instanceof net.Server) return described('net.Server', handle._handle);
  if (handle instanceof dgram.Socket) return described(handle.type, handleOf(handle));
  const kind = NATIVE[handle.constructor && handle.constructor.name];
  if (kind === undefined || typeof handle.fd !== 'number') throw wrongHandle();
  return described(kind, handle);
}

function described(kind, native) {
  return native && native.fd >= 0 ? { kind, fd: native.fd } : null;
}

/** A dgram.Socket keeps its handle behind a symbol that it does not give away. */
function handleOf(socket) {
  const symbol = Object.getOwnPropertySymbols(socket).find(({ description }) => description === 'state symbol');
  return symbol && socket[symbol].handle;
}

/**
 * A socket that has been sent is the receiver's: ours lets go of it, without a word to the other end. Servers and UDP
 * sockets stay open, as in Node.
 */
function letGo(socket, { keepOpen = false } = {}) {
  if (!(socket instanceof net.Socket) || keepOpen) return;
  const native = socket._handle;
  if (socket.server) socket.server._connections -= 1;
  native.onread = () => {};
  socket._handle = null;
  socket.setTimeout(0);
  releaseParser(socket);
  native.close();
}

/** A socket of an HTTP server is read by a parser, which must no longer. */
function releaseParser(socket) {
  const { parser } = socket;
  if (!parser || typeof parser.unconsume !== 'function') return;
  if (parser._consumed) parser.unconsume();
  parser.remove();
  parser.socket = null;
  parser.incoming = null;
  parser.outgoing = null;
  socket.parser = null;
  // Perhaps it is at work just now.
  setImmediate(() => parser.close());
  if (socket._httpMessage) socket._httpMessage.detachSocket(socket);
}

/**
 * Makes of a descriptor what its sender sent.
 * @param {{kind: string, fd: number}} sent what the kernel says it is, too
 * @param {(handle?: object) => void} receive called once it is there; without it, if it cannot be had here
 */
function unpack({ kind, fd }, receive) {
  let made;
  let listen;
  try {
    [made, listen] = make(kind, fd);
  } catch {
    // Node cannot have it.
  }
  if (made === undefined) {
    drop({ fd });
    receive();
    return;
  }
  let isThere = listen === undefined;
  made.on('error', (error) => {
    if (isThere) unheard(made, kind, error);
    else fail();
  });
  function fail() {
    if (isThere) return;
    isThere = true;
    made.close();
    receive();
  }
  if (isThere) {
    receive(made);
    return;
  }
  try {
    listen(() => {
      isThere = true;
      receive(made);
    });
  } catch {
    fail();
  }
}

/** What was sent fails before the program listens to its errors, or the program does not: a client that goes must not end it. */
function unheard(made, kind, error) {
  if (made.listenerCount('error') === 1) thrown(`a ${kind} from a worker`, error);
}

/** Nobody wants what was sent. */
function drop({ fd }) {
  fs.closeSync(fd);
}

/** What a descriptor becomes, and what has to be done before it may be used. */
function make(kind, fd) {
  switch (kind) {
    case 'net.Socket':
      return [new net.Socket({ fd, readable: true, writable: true })];
    case 'net.Server': {
      const server = new net.Server();
      return [server, (done) => server.listen({ fd }, done)];
    }
    case 'udp4':
    case 'udp6': {
      const socket = dgram.createSocket(kind);
      return [socket, (done) => socket.bind({ fd, exclusive: true }, done)];
    }
    default:
      return [];
  }
}

/** The sockets that one worker has sent: few enough for this process to go on when workers send them without end. */
class Given {
  #open = 0;

  constructor() {
    workers += 1;
  }

  /** Whether there is room for one more. */
  hasRoom() {
    limit ??= openFiles();
    const together = Math.max(1, Math.floor(limit / PART_OF_ALL));
    const share = Math.max(1, Math.floor(Math.min(limit / PART, together / workers)));
    return this.#open < share && open < together;
  }

  opens() {
    this.#open += 1;
    open += 1;
  }

  closes() {
    this.#open -= 1;
    open -= 1;
  }

  /** The worker has ended. */
  ends() {
    workers -= 1;
  }
}

function openFiles() {
  try {
    const [, soft] = /^Max open files +(\d+)/m.exec(fs.readFileSync('/proc/self/limits', 'latin1'));
    return Number(soft);
  } catch {
    // There is no /proc, or no limit.
    return USUAL_OPEN_FILES;
  }
}

module.exports = { Given, drop, letGo, pack, unpack };
