export default defineEventHandler(() => `worker=${process.pid}`)
