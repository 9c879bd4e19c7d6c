'use strict';

// What a user's own code does wrong while it is called from here: a listener, a callback or a logger throws, or its promise
// is rejected. The cluster serves on, and the fault is told.

/** How many faults are remembered, so that each is told once. */
const MOST = 100;

/** Where listeners and callbacks failed, and which loggers did. */
const places = new Set();
const loggers = new WeakSet();

/**
 * Calls what may be a user's own code.
 * @param {string} what what it is
 * @param {() => unknown} code
 */
function guard(what, code) {
  try {
    const returned = code();
    if (isThenable(returned)) returned.then(undefined, (error) => rejected(what, error));
  } catch (error) {
    thrown(what, error);
  }
}

/** Tells the listeners of an event, which may do what they like. */
function emit(emitter, event, ...args) {
  guard(`a listener of '${event}'`, () => {
    emitter.emit(event, ...args);
  });
}

/** It threw. A program that handles its uncaught exceptions hears of it as it would without us. */
function thrown(what, error) {
  const isHandled = process.listenerCount('uncaughtException') > 0 || process.hasUncaughtExceptionCaptureCallback();
  if (isHandled) setImmediate(() => { throw error; });
  else tell(what, error);
}

/** Its promise was rejected. The same holds for a program that handles its unhandled rejections. */
function rejected(what, error) {
  const isHandled = process.listenerCount('unhandledRejection') > 0;
  if (isHandled) Promise.reject(error);
  else thrown(what, error);
}

/** Says it once for each place: a listener that throws for one message throws for the next thousand as well. */
function tell(what, error) {
  const shown = describe(error);
  const [place = shown] = shown.split('\n').filter((line) => /^ +at /.test(line));
  const key = `${what} ${place}`;
  if (places.has(key) || places.size >= MOST) return;
  places.add(key);
  say(what, shown);
}

function say(what, shown) {
  write(`recluster: ${what} failed, and the cluster goes on: ${shown}`);
}

/** A line on stderr, if anybody can still read it. */
function write(line) {
  try {
    process.stderr.write(`${line}\n`);
  } catch {
    // There is nobody else to tell.
  }
}

function describe(error) {
  try {
    return String((error && error.stack) || error);
  } catch {
    return 'something that has no text was thrown';
  }
}

function isThenable(value) {
  return value !== null && typeof value === 'object' && typeof value.then === 'function';
}

/**
 * Has a user's logger log a line. A line that it cannot log is on stderr instead, so that none is lost.
 * @param {{log: (...line: unknown[]) => unknown}} logger
 * @param {unknown[]} line
 */
function log(logger, line) {
  const failed = (error) => {
    if (!loggers.has(logger)) say('the logger', describe(error));
    loggers.add(logger);
    write(line.join(' '));
  };
  if (typeof logger.log !== 'function') {
    write(line.join(' '));
    return;
  }
  try {
    const returned = logger.log(...line);
    if (isThenable(returned)) returned.then(undefined, failed);
  } catch (error) {
    failed(error);
  }
}

/** A line about what a worker did wrong, once for each such text. */
function report(text) {
  if (places.has(text) || places.size >= MOST) return;
  places.add(text);
  write(`recluster: ${text}`);
}

module.exports = { emit, guard, log, rejected, report, thrown };
