// The soak, in short: `soak.js` makes a thousand reloads when it is run by hand.
'use strict'

const assert = require('node:assert/strict')
const path = require('node:path')

const { test } = require('./lib/host')
const { Program } = require('./lib/program')
const { DEADLINE } = require('./lib/wait')

test.beside('forty reloads in one process leave nothing behind', async (t) => {
  const soak = new Program(['--expose-gc', path.join(__dirname, 'soak.js'), '--reloads', '40', '--samples', '4', '--workers', '1'])
  t.after(() => soak.destroy())
  const [status] = await soak.ended(10 * DEADLINE)
  assert.equal(status, 0, soak.text)
})
