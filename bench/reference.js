// The reference, wired as its README says. The callback of `reload` is added to time it: it reports to the file
// BENCH_EVENTS, as the server BENCH_SERVER does.

'use strict'

const fs = require('node:fs')
const recluster = require(process.env.BENCH_REFERENCE)

const cluster = recluster(process.env.BENCH_SERVER, { workers: Number(process.env.BENCH_WORKERS) })
cluster.run()

process.on('SIGUSR2', () => {
  cluster.reload(() => {
    const event = { event: 'verdict', time: Number(process.hrtime.bigint()) }
    fs.appendFileSync(process.env.BENCH_EVENTS, JSON.stringify(event) + '\n')
  })
})
