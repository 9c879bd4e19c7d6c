// Everything in one worker: HTTP/1 on TCP and on a unix socket, HTTP/1 and HTTP/2 over TLS.
'use strict'

require('./http')
require('./http2')
