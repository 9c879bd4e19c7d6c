// What differs between what two implementations said in the same scenario. Workers live side by side, so only what was said about
// the same worker has an order.
'use strict'

/**
 * One line of two columns. `reference` and `ours` are the states in which it was said; null where it was not said.
 * It is `moved` where the other side says it too, at another place.
 * @typedef {{ about: string, text: string, reference: string | null, ours: string | null, moved: boolean }} Row
 */

/** All that was said by either, one worker after the other. */
function rows (reference, ours) {
  const about = [...new Set([...reference, ...ours].map(whom))].sort()
  return about.flatMap((worker) => {
    const of = (entries) => entries.filter((entry) => whom(entry) === worker)
    return markMoved(align(of(reference), of(ours))).map((row) => ({ about: worker, ...row }))
  })
}

/** What is about no worker stands under the cluster's own name. */
const whom = (entry) => entry.about ?? 'cluster'

/** The rows that are not the same on both sides. */
const differing = (rows) => rows.filter(({ reference, ours }) => reference !== ours)

// The longest common subsequence of the texts, by the table of the lengths of those of their ends.
function align (a, b) {
  const length = Array.from({ length: a.length + 1 }, () => new Array(b.length + 1).fill(0))
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) {
      length[i][j] = a[i].text === b[j].text ? 1 + length[i + 1][j + 1] : Math.max(length[i + 1][j], length[i][j + 1])
    }
  }
  const aligned = []
  let [i, j] = [0, 0]
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i].text === b[j].text) {
      aligned.push({ text: a[i].text, reference: a[i++].state, ours: b[j++].state })
    } else if (j === b.length || (i < a.length && length[i + 1][j] >= length[i][j + 1])) {
      aligned.push({ text: a[i].text, reference: a[i++].state, ours: null })
    } else {
      aligned.push({ text: b[j].text, reference: null, ours: b[j++].state })
    }
  }
  return aligned
}

// What only one side says at this place is paired with the same text of the other.
function markMoved (rows) {
  const onlyOurs = rows.filter(({ reference }) => reference === null)
  const moved = new Set()
  for (const row of rows.filter(({ ours }) => ours === null)) {
    const twin = onlyOurs.find((other) => other.text === row.text && !moved.has(other))
    if (twin) moved.add(row).add(twin)
  }
  return rows.map((row) => ({ ...row, moved: moved.has(row) }))
}

module.exports = { differing, rows }
