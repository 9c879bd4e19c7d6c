// A server whose release is what a file of a volume says when it starts, if there is one. Where that is `broken`, it does not start. It
// answers /slow when another file is there, keeps 200 MiB more after /keep, and takes all that there is after /grow.
'use strict';

const fs = require('fs');
const http = require('http');

const file = '/data/release';
const release = fs.existsSync(file) ? fs.readFileSync(file, 'utf8').trim() : 'good';
if (release === 'broken') throw new Error('this release is broken');

const grown = [];
http.createServer((request, response) => {
  const answer = () => response.end(JSON.stringify({ release, uid: process.getuid(), home: process.env.HOME ?? null }));
  if (request.url === '/slow') {
    const watcher = fs.watch('/data', (_, name) => {
      if (name !== 'answer') return;
      watcher.close();
      answer();
    });
    console.log('slow');
  } else if (request.url === '/grow') {
    for (;;) grown.push(Buffer.alloc(1 << 20, 1));
  } else if (request.url === '/keep') {
    grown.push(Buffer.alloc(200 << 20, 1));
    answer();
  } else {
    answer();
  }
}).listen(8080);
