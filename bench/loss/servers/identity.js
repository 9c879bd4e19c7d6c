// The key and the certificate of the servers that speak TLS.
'use strict'

const fs = require('node:fs')
const path = require('node:path')

const read = (name) => fs.readFileSync(path.join(process.env.LOSS_TLS, name))

module.exports = { key: read('key.pem'), cert: read('cert.pem') }
