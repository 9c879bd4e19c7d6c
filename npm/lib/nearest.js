'use strict';

// Which of some names is meant by one that is none of them.

/** With more letters wrong than this share of a name, something else is meant. */
const TOLERATED = 0.4;

/**
 * @param {string} name
 * @param {Iterable<string>} names
 * @returns {string | undefined} the nearest one, if it is near
 */
function nearest(name, names) {
  const [best] = [...names]
    .map((candidate) => ({ candidate, distance: distance(name.toLowerCase(), candidate.toLowerCase()) }))
    .sort((one, other) => one.distance - other.distance);
  return best && best.distance <= best.candidate.length * TOLERATED ? best.candidate : undefined;
}

/** Levenshtein's: how many letters have to be changed, put in or taken out. */
function distance(from, to) {
  let row = Array.from({ length: to.length + 1 }, (_, column) => column);
  for (let line = 1; line <= from.length; line += 1) {
    const above = row;
    row = [line];
    for (let column = 1; column <= to.length; column += 1) {
      const changed = above[column - 1] + (from[line - 1] === to[column - 1] ? 0 : 1);
      row.push(Math.min(changed, above[column] + 1, row[column - 1] + 1));
    }
  }
  return row[to.length];
}

module.exports = { nearest };
