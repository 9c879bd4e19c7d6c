'use strict';

// Keeps the process alive for as long as somebody holds it: as a child process does in Node, whose handle is here in the
// engine, of which the event loop knows nothing.

/** The longest that a timer takes. It is only there to be there. */
const FOREVER = 2 ** 31 - 1;

const holds = new Set();
let timer = null;

/** One reason to stay alive, while it is held. */
class Hold {
  /** @param {boolean} on whether it holds from now on */
  set(on) {
    if (on) {
      holds.add(this);
    } else {
      holds.delete(this);
    }
    if (holds.size > 0 && timer === null) {
      timer = setInterval(() => {}, FOREVER);
    } else if (holds.size === 0 && timer !== null) {
      clearInterval(timer);
      timer = null;
    }
  }
}

module.exports = Hold;
