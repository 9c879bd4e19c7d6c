// A registry that has some packages as they would be published, and for everything else sends its clients to the one that npm is
// set to.
'use strict'

const crypto = require('node:crypto')
const { execFileSync } = require('node:child_process')
const fs = require('node:fs')
const http = require('node:http')
const path = require('node:path')

class Registry {
  #packages = new Map()
  #tarballs = new Map()
  #upstream
  #server = http.createServer((request, response) => {
    this.#answer(decodeURIComponent(request.url), response).catch((error) => response.writeHead(502).end(error.message))
  })

  /** @param {string} directory  where npm finds its settings */
  constructor (directory) {
    this.#upstream = execFileSync('npm', ['config', 'get', 'registry'], { cwd: directory, encoding: 'utf8' }).trim().replace(/\/$/, '')
  }

  /** Publishes a packed directory. */
  publish (directory, tarball) {
    const manifest = JSON.parse(fs.readFileSync(path.join(directory, 'package.json'), 'utf8'))
    this.#packages.set(manifest.name, manifest)
    this.#tarballs.set(`/${manifest.name}/-/${path.basename(tarball)}`, fs.readFileSync(tarball))
  }

  async listen () {
    await new Promise((resolve) => this.#server.listen(0, '127.0.0.1', resolve))
    return this.url
  }

  close () {
    this.#server.closeAllConnections()
    this.#server.close()
  }

  get url () {
    return `http://127.0.0.1:${this.#server.address().port}`
  }

  async #answer (url, response) {
    const tarball = this.#tarballs.get(url)
    if (tarball) {
      response.end(tarball)
    } else if (this.#packages.has(url.slice(1))) {
      response.setHeader('content-type', 'application/json')
      response.end(JSON.stringify(await this.#packument(url.slice(1))))
    } else {
      response.writeHead(302, { location: this.#upstream + url }).end()
    }
  }

  // Of a package that exists already, the older versions are there as well.
  async #packument (name) {
    const published = await fetch(`${this.#upstream}/${name.replace('/', '%2f')}`)
    const known = published.ok ? await published.json() : { name, versions: {} }
    const manifest = this.#packages.get(name)
    const [at, bytes] = [...this.#tarballs].find(([url]) => url.startsWith(`/${name}/-/`))
    const hash = (algorithm, encoding) => crypto.createHash(algorithm).update(bytes).digest(encoding)
    const dist = { tarball: this.url + at, shasum: hash('sha1', 'hex'), integrity: `sha512-${hash('sha512', 'base64')}` }
    return { ...known, 'dist-tags': { latest: manifest.version }, versions: { ...known.versions, [manifest.version]: { ...manifest, dist } } }
  }
}

module.exports = { Registry }
