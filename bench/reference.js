// The reference, wired as its README says. The callback of `reload` is added to time it: it reports to the file
// BENCH_EVENTS, as the server does.

'use strict'

const fs = require('node:fs')
const path = require('node:path')
const recluster = require(process.env.BENCH_REFERENCE)

const cluster = recluster(path.join(__dirname, 'server.js'), { workers: Number(process.env.BENCH_WORKERS) })
cluster.run()

process.on('SIGUSR2', () => {
  cluster.reload(() => {
    const event = { event: 'verdict', time: Number(process.hrtime.bigint()) }
    fs.appendFileSync(process.env.BENCH_EVENTS, JSON.stringify(event) + '\n')
  })
})
