// Which differences are those that are expected.
'use strict'

const { differing } = require('./diff')
const { expected } = require('./expected')

/**
 * @param {Object<string, import('./diff').Row[]>} all  the rows of each scenario that was run
 * @param {boolean} partly  whether there are others, so that not every expectation can be seen
 */
function judge (all, partly = false) {
  const unexpected = []
  const seen = new Set()
  for (const [scenario, rows] of Object.entries(all)) {
    for (const row of differing(rows)) {
      const by = expected.filter((expectation) => covers(expectation, scenario, row))
      by.forEach((expectation) => seen.add(expectation))
      if (by.length === 0) unexpected.push({ scenario, ...row })
    }
  }
  return { unexpected, unseen: partly ? [] : expected.filter((expectation) => !seen.has(expectation)) }
}

// What an expectation does not name may be anything.
function covers ({ scenarios, about, text, reference, ours, moved }, scenario, row) {
  const fits = (wanted, value) => wanted === undefined || wanted === value || (wanted instanceof RegExp && value !== null && wanted.test(value))
  return (scenarios === undefined || scenarios.includes(scenario)) &&
    fits(about, row.about) && fits(text, row.text) && fits(reference, row.reference) && fits(ours, row.ours) && fits(moved, row.moved)
}

module.exports = { judge }
