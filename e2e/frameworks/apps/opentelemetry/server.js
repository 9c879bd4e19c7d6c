const express = require('express')

const app = express()
app.get('/', (request, response) => response.send(`worker=${process.pid}`))
app.listen(3000)
