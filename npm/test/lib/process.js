// Processes, as /proc tells of them.
'use strict'

const fs = require('node:fs')

const read = (pid, file) => {
  try {
    return fs.readFileSync(`/proc/${pid}/${file}`, 'utf8')
  } catch {
    return null
  }
}

/** Whether a process runs. One that has ended and was not waited for does not. */
function runs (pid) {
  const stat = read(pid, 'stat')
  return stat !== null && !'ZX'.includes(stat.slice(stat.lastIndexOf(')') + 2, stat.lastIndexOf(')') + 3))
}

/** A field of /proc/PID/status, as text. */
function status (pid, field) {
  const line = read(pid, 'status').split('\n').find((line) => line.startsWith(`${field}:`))
  return line.slice(field.length + 1).trim()
}

/** The descriptors that are open in a process: what each refers to. */
const descriptors = (pid) => fs.readdirSync(`/proc/${pid}/fd`).map((fd) => {
  try {
    return fs.readlinkSync(`/proc/${pid}/fd/${fd}`)
  } catch {
    return 'the directory itself'
  }
})

/** The signals that a process catches, as a mask in hexadecimal. */
const signals = (pid = 'self') => status(pid, 'SigCgt')

/** How many bytes a process has written. */
const written = (pid) => Number(/^wchar: (\d+)/m.exec(read(pid, 'io'))?.[1] ?? 0)

module.exports = { descriptors, runs, signals, status, written }
