// Plain node:cluster: what the reference is built on, without a reload. NODE_CLUSTER_SCHED_POLICY chooses between
// its two ways to share a port.

'use strict'

const cluster = require('node:cluster')

cluster.setupPrimary({ exec: process.env.BENCH_SERVER })
for (let slot = 0; slot < Number(process.env.BENCH_WORKERS); slot += 1) cluster.fork()
