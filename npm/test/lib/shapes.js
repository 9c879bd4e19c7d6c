// Shapes: which paths there are and of which kinds, drawn from the declarations, from docs/json.md and from values alike. A
// path is `workers[].held.requests`; a kind is string, number, boolean, array, object, any, null or absent.
'use strict'

const fs = require('node:fs')
const path = require('node:path')

const { directoryOf, modules, underTest } = require('./packages')

class Shape {
  /** Of each path, what it may be. */
  kinds = new Map()
  /** Which strings it may be; of declarations and the page, only where they are listed. */
  texts = new Map()

  add (at, kind) {
    add(this.kinds, at, kind)
  }

  /** The kinds of a path, in order. */
  at (at) {
    return [...this.kinds.get(at) ?? []].sort()
  }

  /** The strings of a path, in order; undefined where any will do. */
  listed (at) {
    return this.texts.has(at) ? [...this.texts.get(at)].sort() : undefined
  }
}

const add = (map, at, value) => map.set(at, (map.get(at) ?? new Set()).add(value))

/** What these objects are. A field that some objects have at a path, and others have not, may be absent. */
function ofValues (values) {
  const shape = new Shape()
  addObjects(shape, values, '')
  return shape
}

function addObjects (shape, objects, before) {
  for (const name of new Set(objects.flatMap(Object.keys))) {
    const held = objects.filter((object) => Object.hasOwn(object, name)).map((object) => object[name])
    if (held.length < objects.length) shape.add(before + name, 'absent')
    addValues(shape, held, before + name)
  }
}

function addValues (shape, values, at) {
  for (const value of values) {
    const kind = value === null ? 'null' : Array.isArray(value) ? 'array' : typeof value
    shape.add(at, kind)
    if (kind === 'string') add(shape.texts, at, value)
  }
  addObjects(shape, values.filter((value) => typeof value === 'object' && value !== null && !Array.isArray(value)), `${at}.`)
  const elements = values.filter(Array.isArray).flat()
  if (elements.length > 0) addValues(shape, elements, `${at}[]`)
}

// The declarations.

/** The declarations of the package under test. */
class Declarations {
  #ts = require(directoryOf('typescript'))
  #checker
  #module

  constructor () {
    const file = path.join(underTest, 'index.d.ts')
    const options = { strict: true, target: this.#ts.ScriptTarget.ES2022, types: ['node'], typeRoots: [path.join(modules, '@types')], baseUrl: modules }
    const program = this.#ts.createProgram([file], options)
    this.#checker = program.getTypeChecker()
    const symbol = this.#checker.getSymbolAtLocation(program.getSourceFile(file))
    this.#module = this.#checker.resolveExternalModuleSymbol(symbol)
  }

  #type (name) {
    const symbol = this.#checker.getExportsOfModule(this.#module).find((symbol) => symbol.name === name)
    return this.#checker.getDeclaredTypeOfSymbol(symbol)
  }

  /** The shape of an interface. What it inherits is left out. */
  shapeOf (name) {
    const shape = new Shape()
    const type = this.#type(name)
    const own = type.symbol.members
    this.#addMembers(shape, type.getProperties().filter((member) => own.has(member.escapedName)), '')
    return shape
  }

  /** The members of an interface that are tuples: of each, its shape, with the positions for names. */
  tuplesOf (name) {
    return new Map(this.#type(name).getProperties().map((member) => {
      const shape = new Shape()
      const types = this.#checker.getTypeArguments(this.#checker.getTypeOfSymbol(member))
      types.forEach((type, position) => this.#addType(shape, type, `${position}`))
      return [member.name, shape]
    }))
  }

  #addMembers (shape, members, before) {
    for (const member of members) {
      const at = before + member.name
      if (member.flags & this.#ts.SymbolFlags.Optional) shape.add(at, 'absent')
      this.#addType(shape, this.#checker.getTypeOfSymbol(member), at)
    }
  }

  #addType (shape, type, at) {
    const { TypeFlags } = this.#ts
    if (type.isUnion()) type.types.forEach((type) => this.#addType(shape, type, at))
    else if (type.isStringLiteral()) add(shape.texts, at, type.value), shape.add(at, 'string')
    else if (type.flags & TypeFlags.Undefined) shape.add(at, 'absent')
    // In a union with another type it is two: true and false.
    else if (type.flags & TypeFlags.BooleanLike) shape.add(at, 'boolean')
    else if (this.#checker.isArrayType(type)) {
      shape.add(at, 'array')
      this.#addType(shape, this.#checker.getTypeArguments(type)[0], `${at}[]`)
    } else if (type.flags & TypeFlags.Object) {
      shape.add(at, 'object')
      // Of what is declared elsewhere it is not for us to say what it has.
      if (this.#isOurs(type)) this.#addMembers(shape, type.getProperties(), `${at}.`)
    } else shape.add(at, type.flags & TypeFlags.NumberLike ? 'number' : this.#checker.typeToString(type))
  }

  #isOurs (type) {
    return path.dirname(type.symbol.declarations[0].getSourceFile().fileName) === underTest
  }
}

// The page.

/** The shape of the object that docs/json.md describes below this heading. */
function ofPage (heading) {
  const tables = new Map()
  let rows
  for (const line of fs.readFileSync(path.join(__dirname, '../../../docs/json.md'), 'utf8').split('\n')) {
    if (line.startsWith('#')) tables.set(anchorOf(line), rows = [])
    else if (/^\| (`\w+`|) \|/.test(line)) rows.push(line.split('|').slice(1, -1).map((cell) => cell.trim()))
  }
  const shape = new Shape()
  addTable(shape, tables, heading, '')
  return shape
}

const anchorOf = (line) => line.replace(/^#+ /, '').replace(/`/g, '').replace(/ /g, '-').toLowerCase()

function addTable (shape, tables, heading, before) {
  for (const [field, type, , meaning] of tables.get(heading)) {
    // An object whose fields stand among these.
    if (field === '') {
      addTable(shape, tables, /^\[.*\]\(#(.*)\)$/.exec(type)[1], before)
      continue
    }
    const at = before + field.replace(/`/g, '')
    const [, list] = /One of ([^.;]*)/.exec(meaning) ?? []
    for (const [, text] of list?.matchAll(/`([^`]*)`/g) ?? []) add(shape.texts, at, text)
    for (const word of type.split(' or ')) addWord(shape, tables, word, at)
  }
}

function addWord (shape, tables, word, at) {
  const [, element] = /^array of (.*)/.exec(word) ?? []
  const [, object] = /^\[.*\]\(#(.*)\)$/.exec(word) ?? []
  if (element) {
    shape.add(at, 'array')
    addWord(shape, tables, element, `${at}[]`)
  } else if (object) {
    shape.add(at, 'object')
    addTable(shape, tables, object, `${at}.`)
  } else shape.add(at, word === 'integer' ? 'number' : word)
}

module.exports = { Declarations, ofPage, ofValues }
