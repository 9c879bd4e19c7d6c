'use strict';

// What a user wrote, in an error that refuses it: on one line, and never long.

const { inspect } = require('util');

const SHORT = { breakLength: Infinity, depth: 1, maxArrayLength: 5, maxStringLength: 80 };
/** The longest, in characters. */
const MOST = 200;

function brief(value) {
  const shown = shownAs(value).replace(/\s*\n\s*/g, ' ');
  return shown.length > MOST ? `${shown.slice(0, MOST)}…` : shown;
}

function shownAs(value) {
  try {
    return inspect(value, SHORT);
  } catch {
    // Its own code may show it, and throw.
    return typeof value;
  }
}

module.exports = { brief };
