const path = require('node:path')
const grpc = require('@grpc/grpc-js')
const { loadSync } = require('@grpc/proto-loader')

const { Worker } = grpc.loadPackageDefinition(loadSync(path.join(__dirname, 'worker.proto')))

const server = new grpc.Server()
server.addService(Worker.service, {
  name: (call, callback) => callback(null, { text: `worker=${process.pid}` }),
})
server.bindAsync('0.0.0.0:50051', grpc.ServerCredentials.createInsecure(), (error) => {
  if (error) throw error
})
