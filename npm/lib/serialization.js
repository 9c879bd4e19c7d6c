'use strict';

// How messages are written on a worker's channel, by the names of Node's two ways. Each of them reads what Node's own code in
// the worker writes, and the other way round.

const v8 = require('v8');

const { oneOf } = require('./errors');

/** What comes first in an object of the host's own: whether it is a view of memory, or anything else. */
const VIEW = 0;
const OTHER = 1;

class Serializer extends v8.DefaultSerializer {
  _writeHostObject(object) {
    if (ArrayBuffer.isView(object)) {
      this.writeUint32(VIEW);
      super._writeHostObject(object);
    } else {
      // A socket, a URL …: what JSON would say of it.
      this.writeUint32(OTHER);
      this.writeValue({ ...object });
    }
  }
}

class Deserializer extends v8.DefaultDeserializer {
  _readHostObject() {
    return this.readUint32() === VIEW ? super._readHostObject() : this.readValue();
  }
}

const json = {
  /** A message as the engine takes it. It puts the message into an envelope, if a handle goes with it. */
  write: (message) => JSON.stringify(message),
  read: (text) => JSON.parse(text),
};

const advanced = {
  /** A message as the engine takes it: in its envelope, if a handle of this kind goes with it. */
  write(message, kind) {
    const serializer = new Serializer();
    serializer.writeHeader();
    serializer.writeValue(kind === undefined ? message : { cmd: 'NODE_HANDLE', ...typeOf(kind), msg: message });
    return serializer.releaseBuffer();
  },
  read(value) {
    const deserializer = new Deserializer(value);
    deserializer.readHeader();
    const message = deserializer.readValue();
    return message !== null && typeof message === 'object' && message.cmd === 'NODE_HANDLE' ? message.msg : message;
  },
};

const WAYS = { json, advanced };

/** A kind of handle, in the fields of Node's envelope. */
function typeOf(kind) {
  return kind.startsWith('udp') ? { type: 'dgram.Socket', dgramType: kind } : { type: kind };
}

/** What `cluster.settings` says. As with cluster.fork(), it is an error to say anything else. */
function chosen({ serialization }) {
  if (serialization !== undefined && !Object.hasOwn(WAYS, serialization)) {
    throw oneOf('options.serialization', [undefined, ...Object.keys(WAYS)], serialization);
  }
  return serialization ?? 'json';
}

module.exports = { WAYS, chosen };
