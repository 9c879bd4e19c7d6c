import Fastify from 'fastify'

enum Port { Http = 3000 } // an enum is no syntax that node alone can take away

const app = Fastify()
app.get('/', async (): Promise<string> => `worker=${process.pid}`)
await app.listen({ port: Port.Http })
