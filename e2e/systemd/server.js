// A server whose release is the name of its directory. Where that is `broken`, it does not start. It may begin and end later than at once.
'use strict';

const http = require('http');
const path = require('path');

const { PORT = '8080', STARTS_AFTER = '0', STOPS_AFTER = '0' } = process.env;
const release = path.basename(__dirname);
if (release === 'broken') throw new Error('this release is broken');

const server = http.createServer((request, response) => {
  const answer = () => response.end(JSON.stringify({ release, pid: process.pid, uid: process.getuid() }));
  if (request.url === '/slow') setTimeout(answer, 1000);
  else answer();
});
setTimeout(() => server.listen(PORT), STARTS_AFTER * 1000);
if (STOPS_AFTER !== '0') process.on('SIGTERM', () => setTimeout(() => process.exit(), STOPS_AFTER * 1000));
