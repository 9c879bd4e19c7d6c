// Asks PORT for /items, RATE times a second at even distances, whether or not earlier requests were answered, each on a
// connection of its own. When its stdin ends it waits for what is open, and writes for each request when it was planned (ns),
// when it began (ns) and how long after the plan its answer had come (ms), or null where there was none.

'use strict'

const http = require('node:http')
const os = require('node:os')

const [port, rate] = process.argv.slice(2).map(Number)
const PATIENCE = 10_000

try {
  // It keeps the time.
  os.setPriority(-10)
} catch {
  // Only root may.
}

const now = () => Number(process.hrtime.bigint())
const begin = now()
const done = []
let count = 0
let open = 0
let isEnding = false

const timer = setInterval(() => {
  for (let planned = plan(); planned <= now(); planned = plan()) {
    count += 1
    ask(planned)
  }
}, 1)

function plan() {
  return begin + (count * 1e9) / rate
}

function ask(planned) {
  const begun = now()
  open += 1
  let isOver = false
  const over = (ms) => {
    if (isOver) return
    isOver = true
    open -= 1
    done.push([planned, begun, ms])
    finish()
  }
  const request = http.get({ host: '127.0.0.1', port, path: '/items', agent: false, timeout: PATIENCE }, (response) => {
    response.on('end', () => over(response.statusCode === 200 ? (now() - planned) / 1e6 : null)).resume()
    response.on('error', () => over(null))
  })
  request.on('error', () => over(null)).on('timeout', () => request.destroy(new Error('timeout')))
}

function finish() {
  if (!isEnding || open > 0) return
  process.stdout.write(JSON.stringify(done), () => process.exit())
}

process.stdin.on('end', () => {
  isEnding = true
  clearInterval(timer)
  finish()
})
process.stdin.resume()
