// Reloads one cluster again and again in one process, and shows that nothing of it grows:
//
//     node --expose-gc npm/test/soak.js [--reloads 1000] [--workers 2] [--samples 10]
//
// Each sample is taken when all old workers are gone. What grows between the second sample and the last one is a leak: the kinds
// of active resources, threads, descriptors, the heap, and the memory that is resident. Ends with 1 then, or when Node
// has warned of anything.
'use strict'

const path = require('node:path')
const { parseArgs } = require('node:util')

const { underTest } = require('./lib/packages')
const { descriptors, status } = require('./lib/process')
const { called, until } = require('./lib/wait')

const MIB = 1 << 20
/** What a measurement may grow by without a leak: one that leaks at each reload grows by more. */
const NOISE = { descriptors: 4, heap: 2 * MIB, listeners: 0, resident: 24 * MIB, resources: 4, threads: 0 }

async function main () {
  const { values } = parseArgs({
    options: {
      reloads: { type: 'string', default: '1000' },
      samples: { type: 'string', default: '10' },
      workers: { type: 'string', default: '2' }
    }
  })
  const [reloads, workers, samples] = [values.reloads, values.workers, values.samples].map(Number)
  const warnings = []
  process.on('warning', (warning) => warnings.push(warning))
  const made = require(underTest)(path.join(__dirname, 'fixtures', 'puppet.js'), {
    args: ['listen'], respawn: 0.001, timeout: 5, workers, logger: { log () {} }
  })
  made.run()
  await quiet(made)
  const taken = []
  for (let reload = 1; reload <= reloads; reload++) {
    await called((done) => made.reload(done))
    if (reload % Math.ceil(reloads / samples) === 0) {
      await quiet(made)
      taken.push(sample(made))
      console.log(`${reload} reloads: ${show(taken.at(-1))}`)
    }
  }
  const faults = [...warnings.map((warning) => warning.stack), ...growth(taken[1], taken.at(-1))]
  console.log(faults.length ? faults.join('\n') : 'nothing grows')
  await called((done) => made.terminate(done))
  process.exitCode = faults.length ? 1 : 0
}

// Waits until nobody is there but one ready worker in each slot.
const quiet = (made) => until('the old workers\' end', () => {
  const active = Array.from(made.activeWorkers()).filter(Boolean)
  return made.workers().length === active.length && active.length === made.activeWorkers().length
})

function sample (made) {
  global.gc?.()
  const { heapUsed, rss } = process.memoryUsage()
  return {
    // Timers come and go.
    resources: process.getActiveResourcesInfo().filter((kind) => !['Timeout', 'Immediate'].includes(kind)).length,
    listeners: made.eventNames().reduce((sum, event) => sum + made.listenerCount(event), 0),
    threads: Number(status('self', 'Threads')),
    descriptors: descriptors('self').length,
    heap: heapUsed,
    resident: rss
  }
}

const show = ({ heap, resident, ...counts }) => {
  const mib = (bytes) => `${(bytes / MIB).toFixed(1)} MiB`
  return [...Object.entries(counts), ['heap', mib(heap)], ['resident', mib(resident)]].map((entry) => entry.join(' ')).join(', ')
}

const growth = (early, late) => Object.keys(NOISE)
  .filter((kind) => late[kind] - early[kind] > NOISE[kind])
  .map((kind) => `${kind} grew from ${early[kind]} to ${late[kind]}`)

main()
