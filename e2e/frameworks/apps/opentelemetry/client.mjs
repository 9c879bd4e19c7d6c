// The collector that the agent sends its spans to. Without one it tries for ten seconds at the end of each worker.

import http from 'node:http'

http.createServer((request, response) => {
  request.resume().on('end', () => response.end())
}).listen(4318, '127.0.0.1').unref()
