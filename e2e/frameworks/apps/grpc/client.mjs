// What to ask the server for: a call of its own connection, and of one that is kept.

import path from 'node:path'
import grpc from '@grpc/grpc-js'
import { loadSync } from '@grpc/proto-loader'

const { Worker } = grpc.loadPackageDefinition(loadSync(path.join(import.meta.dirname, 'worker.proto')))

export const connect = (base) => {
  const options = { 'grpc.use_local_subchannel_pool': 1 }
  const client = new Worker(new URL(base).host, grpc.credentials.createInsecure(), options)
  const ask = () => new Promise((resolve, reject) => {
    client.name({}, { deadline: Date.now() + 60_000 }, (error, reply) => (error ? reject(error) : resolve(reply.text)))
  })
  return { ask, close: () => client.close() }
}
