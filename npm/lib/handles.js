'use strict';

// Sockets and servers that travel with messages: to the engine as a descriptor and a word for what it is, and back.

const dgram = require('dgram');
const fs = require('fs');
const net = require('net');

const { wrongHandle } = require('./errors');

/** Node's own handles, by the names of their classes, which are not to be had otherwise. */
const NATIVE = { TCP: 'net.Native', Pipe: 'net.Native', UDP: 'dgram.Native' };

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
 * @param {{kind: string, fd: number}} sent
 * @param {(handle?: object) => void} receive called once it is there; without it, if it cannot be had here
 */
function unpack({ kind, fd }, receive) {
  let made;
  let listen;
  try {
    [made, listen] = make(kind, fd);
  } catch {
    // It is not what it was said to be.
  }
  if (made === undefined) {
    drop({ fd });
    receive();
  } else if (listen === undefined) {
    receive(made);
  } else {
    listen(() => receive(made));
  }
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

module.exports = { drop, letGo, pack, unpack };
