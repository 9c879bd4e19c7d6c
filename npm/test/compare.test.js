// Behaviour side by side: what differs from the reference is what `compare/expected.js` names, and nothing else.
// `node npm/test/compare/compare.js` prints all of it.
'use strict'

const assert = require('node:assert/strict')

const { rows } = require('./compare/diff')
const { judge } = require('./compare/judge')
const { play, playReference } = require('./compare/play')
const { scenarios } = require('./compare/scenarios')
const { show } = require('./compare/show')
const { test } = require('./lib/host')
const { isReference, underTest } = require('./lib/packages')

const skip = isReference && 'this is the reference'
const played = {}

for (const scenario of Object.keys(scenarios)) {
  test.beside(scenario, { skip }, async () => {
    played[scenario] = rows(await playReference(scenario), await play(underTest, scenario))
    const { unexpected } = judge({ [scenario]: played[scenario] }, true)
    if (unexpected.length) assert.fail(`this is not expected:\n${show(unexpected)}`)
  })
}

test.beside('every difference that is expected is there', { skip }, () => {
  assert.equal(Object.keys(played).length, Object.keys(scenarios).length, 'another test has failed')
  assert.deepEqual(judge(played).unseen, [])
})
