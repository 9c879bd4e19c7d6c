// Runs the scenarios with the reference and with the package under test, and prints what each said beside the other:
//
//     node npm/test/compare/compare.js [--times N] [SCENARIO …]
//
// `show.js` says how to read it. Ends with 1 where something differs that `expected.js` does not name.
// With --times, the reference is first run so often against itself, which shows the races that it has of its own.
'use strict'

const { parseArgs } = require('node:util')

const { underTest } = require('../lib/packages')
const { differing, rows } = require('./diff')
const { judge } = require('./judge')
const { play, playReference } = require('./play')
const { scenarios } = require('./scenarios')
const { show } = require('./show')

async function main () {
  const { values, positionals } = parseArgs({ options: { times: { type: 'string', default: '0' } }, allowPositionals: true })
  const chosen = positionals.length ? positionals : Object.keys(scenarios)
  const all = {}
  for (const scenario of chosen) {
    console.log(`\n## ${scenario}\n`)
    try {
      all[scenario] = await compare(scenario, Number(values.times))
    } catch (error) {
      console.log(error.message)
    }
  }
  const done = Object.keys(all).length
  const { unexpected, unseen } = judge(all, done < Object.keys(scenarios).length)
  for (const { scenario, ...row } of unexpected) print(`not expected, in: ${scenario}`, [row])
  for (const expectation of unseen) console.log('\nexpected and not seen:', expectation)
  process.exitCode = unexpected.length || unseen.length || done < chosen.length ? 1 : 0
}

async function compare (scenario, times) {
  const theirs = await playReference(scenario)
  for (let time = 0; time < times; time++) {
    const again = differing(rows(theirs, await playReference(scenario)))
    if (again.length) print('the reference, and the reference once more', again)
  }
  const both = rows(theirs, await play(underTest, scenario))
  print('the reference, and ours', both)
  return both
}

const print = (heading, rows) => console.log(`${heading}\n\n${show(rows)}\n`)

main()
