// The lines of the README for those who come from pm2, throng and Node's own cluster, as they stand there.
'use strict'

const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')

const { install } = require('./lib/app')
const { get } = require('./lib/client')
const { onlyOurs, test } = require('./lib/host')
const { until } = require('./lib/wait')

const README = fs.readFileSync(path.join(__dirname, '..', 'README.md'), 'utf8')
const [, SECTION] = /^# from pm2, throng and node:cluster$(.*?)^# /ms.exec(README)

const PM2 = { args: ['--verbose'], instance: '0', place: 'a file', role: 'web', slot: '0' }

for (const [name, given] of [['node:cluster', { args: [], slot: '0' }], ['throng', { id: 1 }], ['pm2', PM2]]) {
  test.beside(name, onlyOurs, async (t) => {
    const [, code] = new RegExp(`\\*\\*${name}\\.\\*\\*.*?^\`\`\`js$(.*?)^\`\`\`$`, 'ms').exec(SECTION)
    const app = install('migrate')
    fs.writeFileSync(path.join(app.directory, 'app.js'), `require('./watches')\n${code}`)
    const program = app.run('app.js')
    t.after(() => {
      program.destroy()
      app.remove()
    })
    const listening = () => program.messages.filter((message) => 'listening' in message)
    const found = () => until('all four slots', async () => {
      const answers = []
      for (let time = 0; time < 8; time++) answers.push(await get(listening().at(-1).listening))
      return new Set(answers.map(({ pid }) => pid)).size === 4 && answers
    })
    await until('all to listen', () => listening().length === 4)
    const before = await found()
    const first = before.find((answer) => (answer.given.slot ?? `${answer.given.id - 1}`) === '0')
    assert.deepEqual(first.given, JSON.parse(JSON.stringify(given)))
    assert.equal(program.messages.some((message) => 'master' in message), name === 'throng')
    if (name !== 'throng') {
      program.kill('SIGUSR2')
      await until('all new ones to listen', () => listening().length === 8)
      await until('new ones alone', async () => (await found()).every(({ pid }) => before.every((old) => old.pid !== pid)))
    }
    program.kill('SIGTERM')
    assert.deepEqual(await program.ended(), [0, null], program.text)
    await program.abandoned()
  })
}
