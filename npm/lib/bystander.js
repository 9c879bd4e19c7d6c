'use strict';

// The cluster as a worker sees it: it is somebody else's business, so whatever acts does nothing.

const { EventEmitter } = require('events');

const { countOfWorkers } = require('./options');

class Bystander extends EventEmitter {
  /**
   * @param {string} file
   * @param {object} options
   */
  constructor(file, options) {
    super();
    const workers = [];
    const activeWorkers = { length: countOfWorkers(options) };
    this.run = () => {};
    this.stop = () => {};
    this.terminate = () => {};
    this.reload = promised();
    this.shutdown = promised();
    this.scale = promised(activeWorkers.length);
    this.status = promised(null);
    this.workers = () => workers;
    this.activeWorkers = () => activeWorkers;
  }
}

/** A method that does nothing: it promises a value, or, where it is given a callback, says nothing. */
function promised(value) {
  return (callback) => (typeof callback === 'function' ? undefined : Promise.resolve(value));
}

module.exports = Bystander;
