// Asks a server for a connection a request, several at a time, until it is told to end; then it says what became of them.
//
//     node load.js PORT [PATH]      SIGTERM: prints {"answered", "refused", "cut", "other"} and ends
//
// `refused`: nobody listened. `cut`: a connection was closed or reset before its answer was whole.
'use strict';

const http = require('http');

const [port, path = '/'] = process.argv.slice(2);
const counts = { answered: 0, refused: 0, cut: 0, other: 0 };
let ends = false;
let open = 0;

function begin() {
  if (ends) {
    if (open === 0) finish();
    return;
  }
  open += 1;
  let isOver = false;
  const over = (what) => {
    if (isOver) return;
    isOver = true;
    open -= 1;
    counts[what] += 1;
    setTimeout(begin, what === 'answered' ? 0 : 20);
  };
  const request = http.get({ port, path, agent: false, host: '127.0.0.1' }, (response) => {
    response.on('end', () => over(response.complete && response.statusCode === 200 ? 'answered' : 'other'));
    response.on('error', () => over('cut'));
    response.resume();
  });
  request.on('error', ({ code }) => {
    over(code === 'ECONNREFUSED' ? 'refused' : ['ECONNRESET', 'EPIPE'].includes(code) ? 'cut' : 'other');
  });
}

function finish() {
  console.log(JSON.stringify(counts));
  process.exit();
}

process.on('SIGTERM', () => { ends = true; });
for (let index = 0; index < 8; index += 1) begin();
console.log('asks');
