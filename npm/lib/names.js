'use strict';

// By which names a program came to its directories. A symlink in such a name may lead to another release later; Node's own
// names (`process.cwd()`, `__dirname`) have none.

const fs = require('fs');
const path = require('path');

/** The working directory: what it is, the path that Node has for it, and the name by which the shell entered it. */
let working;

/**
 * The working directory, by the name by which the shell entered it. It is found once: later its symlinks may lead elsewhere,
 * and then nothing tells any more which name it was.
 */
function workingDirectory() {
  return entered().name ?? process.cwd();
}

/**
 * The name under which this program came to a file of its own: by the name of its working directory, or by the path of its
 * main module as it was started.
 */
function nameOf(file) {
  const named = [entered(), ...main].find(({ real }) => real !== undefined && file.startsWith(`${real}${path.sep}`));
  return named === undefined ? file : path.join(named.name, path.relative(named.real, file));
}

function entered() {
  const { dev, ino } = fs.statSync('.');
  if (working === undefined || working.dev !== dev || working.ino !== ino) {
    const said = process.env.PWD ?? '';
    // It may have been removed. Then it has no path that leads to it.
    const real = realOf('.');
    working = { dev, ino, real, name: path.isAbsolute(said) && realOf(said) === real ? said : real };
  }
  return working;
}

/** The directory of the main module and its name: none if the symlink is the file itself, as in `node_modules/.bin`. */
function ofMain() {
  const started = process.argv[1];
  const name = started === undefined ? undefined : path.dirname(started);
  const real = name === undefined ? undefined : realOf(name);
  return real !== undefined && realOf(started) === path.join(real, path.basename(started)) ? [{ real, name }] : [];
}

function realOf(named) {
  try {
    return fs.realpathSync(named);
  } catch {
    return undefined;
  }
}

const main = ofMain();

module.exports = { nameOf, workingDirectory };
