// What docs/frameworks.md tells its readers to run: for each section its application and its commands.

import fs from 'node:fs'

const LINK = /\]\(\.\.\/e2e\/frameworks\/apps\/([\w-]+)\)/

// The indented lines of a section are its commands. Those that start a cluster are tried one by one; the others are run
// before them, as they stand.
const sectionOf = (text) => {
  const lines = text.split('\n')
  const commands = lines.filter((line) => line.startsWith('    ')).map((line) => line.trim())
  const isStart = (line) => /(^|\s)recluster\s/.test(line.replace(/#.*/, ''))
  return {
    title: lines[0],
    app: LINK.exec(text)?.[1],
    preparations: commands.filter((line) => !isStart(line)),
    starts: commands.filter(isStart),
  }
}

export const read = (path) => {
  const sections = fs.readFileSync(path, 'utf8').split(/^## /m).slice(1).map(sectionOf)
  const tried = sections.filter((section) => section.app)
  const strange = tried.find((section) => section.starts.length === 0)
  if (strange) throw new Error(`${path}: the section "${strange.title}" starts no cluster`)
  return tried
}
