'use strict';

// What somebody has told Node's own module of how connections reach workers: the program, or NODE_CLUSTER_SCHED_POLICY.

const cluster = require('cluster');

const { SCHED_NONE, SCHED_RR } = cluster;
const POLICIES = { rr: SCHED_RR, none: SCHED_NONE };

let policy = cluster.schedulingPolicy;
// Node's default is the one or the other as well, by the platform: its value alone is no choice.
let isChosen = POLICIES[process.env.NODE_CLUSTER_SCHED_POLICY] === policy || policy !== SCHED_RR;

/** Notes from now on that somebody chooses, also where that is what Node has already. */
function watch() {
  if (Object.getOwnPropertyDescriptor(cluster, 'schedulingPolicy')?.configurable !== true) return;
  const set = (value) => {
    policy = value;
    isChosen = true;
  };
  Object.defineProperty(cluster, 'schedulingPolicy', { configurable: true, enumerable: true, get: () => policy, set });
}

/** SCHED_RR or SCHED_NONE, if somebody wants it; else undefined. `setupPrimary()` keeps whatever it is given. */
function chosen() {
  if (isChosen) return cluster.schedulingPolicy;
  const said = cluster.settings.schedulingPolicy;
  return said === SCHED_RR || said === SCHED_NONE ? said : undefined;
}

watch();

module.exports = { chosen, SCHED_NONE };
