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
  const all = {}
  for (const scenario of positionals.length ? positionals : Object.keys(scenarios)) {
    console.log(`\n## ${scenario}\n`)
    const theirs = await playReference(scenario)
    for (let time = 0; time < Number(values.times); time++) {
      const again = differing(rows(theirs, await playReference(scenario)))
      if (again.length) print('the reference, and the reference once more', again)
    }
    all[scenario] = rows(theirs, await play(underTest, scenario))
    print('the reference, and ours', all[scenario])
  }
  const { unexpected, unseen } = judge(all, positionals.length > 0)
  for (const { scenario, ...row } of unexpected) print(`not expected, in: ${scenario}`, [row])
  for (const expectation of unseen) console.log('\nexpected and not seen:', expectation)
  process.exitCode = unexpected.length || unseen.length ? 1 : 0
}

const print = (heading, rows) => console.log(`${heading}\n\n${show(rows)}\n`)

main()
