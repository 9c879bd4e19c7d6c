'use strict';

// recluster(file, options): a cluster of processes that run one server file, with reloads that lose nothing.
//
// In the primary this is a front of the engine, which is native, or of Node's own cluster where no engine is built; in a
// worker it is a cluster that does nothing, and no engine is even loaded: so a file may call it wherever it runs.

const cluster = require('cluster');

const { choose } = require('./lib/engines');

/**
 * @param {string} file the server: a path, absolute or from the working directory
 * @param {object} [options] see the README; read at run(), and again at each reload()
 * @returns {import('events').EventEmitter} the cluster, not yet running
 */
function recluster(file, options) {
  return new Cluster(file, options === undefined || options === null ? {} : options);
}

const Cluster = load();

function load() {
  if (!cluster.isPrimary) return require('./lib/bystander');
  return choose() === 'fallback' ? require('./lib/fallback') : require('./lib/cluster');
}

module.exports = recluster;
