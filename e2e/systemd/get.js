// Asks a server once and prints what it answers.
//
//     node get.js PORT [PATH]
'use strict';

const http = require('http');

const [port, path = '/'] = process.argv.slice(2);
const request = http.get({ port, path, host: '127.0.0.1', agent: false }, (response) => response.pipe(process.stdout));
request.on('error', (error) => { console.log(error.message); process.exitCode = 1; });
