// The npm package recluster, the reference or ours, as a contender, wired as its README says. The callback of `reload` tells the verdict.
'use strict'

const fs = require('node:fs')
const recluster = require(process.env.LOSS_PACKAGE)

const cluster = recluster(process.env.LOSS_SERVER, {
  workers: Number(process.env.LOSS_WORKERS),
  timeout: Number(process.env.LOSS_TIMEOUT_SECONDS)
})
cluster.run()

process.on('SIGUSR2', () => {
  cluster.reload(() => fs.appendFileSync(process.env.LOSS_EVENTS, JSON.stringify({ reloaded: true }) + '\n'))
})
