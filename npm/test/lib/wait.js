// Waiting for what a test expects: for an event where one tells, by looking again where nobody does. Every wait has the same
// generous deadline, which is no assertion of a speed: a test that works never comes near it.
'use strict'

/** How long any single wait may take, in milliseconds. */
const DEADLINE = 120_000

/** Between two looks at something that nobody tells of, in milliseconds. */
const PAUSE = 10

/**
 * Waits for what `begin` begins: it is given `resolve` and `reject`, and may return a function that undoes it.
 * @param {string} what  ends the sentence "waited in vain for"
 */
async function within (what, begin, deadline = DEADLINE) {
  const late = new Error(`waited in vain for ${what}`)
  let timer, undo
  try {
    return await new Promise((resolve, reject) => {
      timer = setTimeout(reject, deadline, late)
      undo = begin(resolve, reject)
    })
  } finally {
    clearTimeout(timer)
    if (typeof undo === 'function') undo()
  }
}

/** Waits for an event whose arguments are accepted, and gives them. `what` is what a failure says that it waited for. */
function heard (emitter, event, accept = () => true, what = `the event '${event}'`) {
  return within(what, (resolve) => {
    const listen = (...args) => {
      if (accept(...args)) resolve(args)
    }
    emitter.on(event, listen)
    return () => emitter.removeListener(event, listen)
  })
}

/** Waits until so many of these events were heard, and gives the arguments of each. */
function heardOften (emitter, event, often) {
  const all = []
  return heard(emitter, event, (...args) => all.push(args) === often).then(() => all)
}

/** Waits until a condition holds of which nobody tells, and gives what it gave. */
function until (what, condition) {
  return within(what, (resolve, reject) => {
    const look = async () => {
      try {
        const value = await condition()
        if (value) resolve(value)
        else timer = setTimeout(look, PAUSE)
      } catch (error) {
        reject(error)
      }
    }
    let timer = setTimeout(look)
    return () => clearTimeout(timer)
  })
}

/** Waits for the call of a callback: `await called((done) => cluster.reload(done))` gives its arguments. */
const called = (begin) => within('a callback', (resolve) => begin((...args) => resolve(args)))

/** Waits for one turn of the event loop, in which what is due is done. */
const turn = () => new Promise((resolve) => setImmediate(resolve))

module.exports = { DEADLINE, called, heard, heardOften, turn, until, within }
