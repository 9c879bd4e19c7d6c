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

// What an expectation does not name may be anything. With `orMoved` it also covers a row that both sides have, at another place.
function covers ({ scenarios, about, text, reference, ours, moved, orMoved }, scenario, row) {
  const fits = (wanted, value) => wanted === undefined || wanted === value || (wanted instanceof RegExp && value !== null && wanted.test(value))
  return (scenarios === undefined || scenarios.includes(scenario)) &&
    fits(about, row.about) && fits(text, row.text) && fits(moved, row.moved) &&
    ((orMoved && row.moved) || (fits(reference, row.reference) && fits(ours, row.ours)))
}

module.exports = { judge }
