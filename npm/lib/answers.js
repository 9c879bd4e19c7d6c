'use strict';

// The two ways in which a method answers later: by a callback, or by a promise.

const { guard } = require('./faults');

/**
 * Answers by a callback or, where there is none, by a promise whose failure needs nobody: what it is about has been logged.
 * @param {((error?: Error) => void) | undefined} callback
 * @param {(done: (error?: Error | null, value?: unknown) => void) => void} ask
 */
function answer(callback, ask) {
  if (typeof callback === 'function') {
    ask((error) => guard('a callback', () => (error ? callback(error) : callback())));
    return undefined;
  }
  const answered = promise(ask);
  answered.catch(() => {});
  return answered;
}

/**
 * A promise of what is asked for.
 * @param {(done: (error: Error | null, value?: unknown) => void) => void} ask
 */
function promise(ask) {
  return new Promise((resolve, reject) => {
    ask((error, value) => (error ? reject(error) : resolve(value)));
  });
}

module.exports = { answer, promise };
