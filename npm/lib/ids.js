'use strict';

// Numbers of workers are unique in the process, whoever forks: a cluster of ours, or the program itself, by
// cluster.fork().
//
// The engine counts. Node counts as well, where nobody can reach it: so before the program forks, a number is taken from
// the engine, and Node is brought to the same one.

const cluster = require('cluster');
const { syncBuiltinESMExports } = require('module');

const WRAPPED = Symbol.for('recluster.wrapped');

/** Thrown to make Node count and not fork. */
const NOT_MEANT = new Error('recluster: not meant to fork');

/**
 * Shares the engine's numbers with cluster.fork(), from now on.
 * @param {{reserveId(): number, raiseIds(last: number): void}} engine
 */
function share(engine) {
  if (cluster.fork[WRAPPED]) return;
  const forkAsNode = cluster.fork;
  // As far as can be seen: there may have been workers that are gone.
  let last = Math.max(0, ...Object.keys(cluster.workers).map(Number));
  engine.raiseIds(last);

  cluster.fork = function fork(env) {
    const id = engine.reserveId();
    last = skip(forkAsNode, last, id - 1);
    try {
      const worker = forkAsNode.call(this, env);
      last = worker.id;
      return worker;
    } catch (error) {
      last += 1;
      throw error;
    } finally {
      // Node may have been further than it seemed.
      engine.raiseIds(last);
    }
  };
  cluster.fork[WRAPPED] = true;
  // So that `import { fork } from 'node:cluster'` finds it as well.
  syncBuiltinESMExports();
}

/**
 * Has Node count up to a number: it counts before it looks at the environment that it is given, and forks after that.
 * @returns {number} how far it has counted
 */
function skip(forkAsNode, from, to) {
  const env = {
    get RECLUSTER() {
      throw NOT_MEANT;
    },
  };
  const { setupPrimary } = cluster;
  // It would tell everybody of settings that are not used.
  cluster.setupPrimary = () => {};
  try {
    for (let count = from; count < to; count += 1) {
      try {
        forkAsNode.call(cluster, env);
      } catch (error) {
        if (error !== NOT_MEANT) throw error;
      }
    }
  } finally {
    cluster.setupPrimary = setupPrimary;
  }
  return Math.max(from, to);
}

/** Whether this is how we fork, on top of what was there. */
function isOurs(fork) {
  return Boolean(fork[WRAPPED]);
}

module.exports = { isOurs, share };
