// Two columns: what the reference said, and what ours did. The mark between them: `=` the same, `~` the same but for the state,
// which stands below, `<` only the reference, `>` only ours; `<<` and `>>` where the other says it at another place.
'use strict'

const WIDTH = 62

/** Rows as text. */
const show = (rows) => rows.flatMap(lines).join('\n')

function lines ({ about, moved, ours, reference, text }) {
  const side = reference === null ? '>' : ours === null ? '<' : reference === ours ? '=' : '~'
  const said = `${about} ${text}`.slice(0, WIDTH)
  const left = side === '>' ? '' : said
  const right = side === '<' ? '' : said
  const line = `  ${left.padEnd(WIDTH)} ${(moved ? side + side : side).padEnd(2)} ${right}`
  return side === '~' ? [line, `      reference: ${reference}`, `      ours:      ${ours}`] : [line.trimEnd()]
}

module.exports = { show }
