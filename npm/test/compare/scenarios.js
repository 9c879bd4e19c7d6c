// What is compared. Each scenario is a script that is run with the reference and with ours, as `stage` directs it; its file and
// options are those of the cluster, `settings` those of Node's module, and `hostArgv` is for the host's node; where it `isLinked`, the
// file is named by a symlink, and where it `isBare`, without its ending. A script ends when
// everything that it is about has happened.
'use strict'

const cluster = require('node:cluster')

const listens = (words = []) => ({ args: ['listen', ...words] })

const scenarios = {
  'start, two workers': {
    options: { workers: 2, ...listens() },
    script: (stage) => stage.serving('0a', '1a')
  },

  'ready when started': {
    options: { readyWhen: 'started', ...listens() },
    script: (stage) => stage.serving('0a')
  },

  'ready when it says so': {
    options: { readyWhen: 'ready', ...listens() },
    script: (stage) => stage.makeReady('0a')
  },

  'a worker that listens before it is ready and says it twice': {
    options: { readyWhen: 'ready', args: ['ready', 'listen', 'ready'] },
    async script (stage) {
      await stage.until('0a', 'object listening')
      await stage.echo('0a', 'the last word')
    }
  },

  'a server on two ports': {
    options: { args: ['listen twice'] },
    async script (stage) {
      await stage.serving('0a')
      await stage.until('0a', /^object listening.*PORT 2/)
      await stage.echo('0a', 'the last word')
    }
  },

  crash: {
    options: listens(),
    async script (stage) {
      await stage.serving('0a')
      stage.tell('0a', { do: 'exit', status: 3 })
      await stage.gone('0a')
      await stage.serving('0b')
    }
  },

  'killed by the host': {
    options: listens(),
    async script (stage) {
      await stage.serving('0a')
      stage.worker('0a').kill('SIGKILL')
      await stage.gone('0a')
      await stage.serving('0b')
    }
  },

  // (What dies of it is in ../signals.test.js: whether Node tells the exit or the end of the channel first is chance then.)
  '^C where both have a handler': {
    options: listens(['hears signals']),
    async script (stage) {
      await stage.serving('0a')
      stage.signalGroup('SIGINT')
      await stage.until('0a', /^process message.*SIGINT/)
      await stage.echo('0a', 'the last word')
    }
  },

  'process.kill(0) for a signal that workers handle': {
    options: listens(['hears signals']),
    async script (stage) {
      await stage.serving('0a')
      stage.signalGroup('SIGHUP')
      await stage.until('0a', /^process message.*SIGHUP/)
      await stage.echo('0a', 'the last word')
    }
  },

  'worker.disconnect() by the host': {
    options: listens(),
    async script (stage) {
      await stage.serving('0a')
      stage.note('calls worker.disconnect()', '0a')
      const itself = stage.worker('0a').disconnect() === stage.worker('0a')
      stage.note(`worker.disconnect() gives the worker: ${itself}`, '0a')
      await stage.gone('0a')
      await stage.serving('0b')
    }
  },

  'process.disconnect() in the worker': {
    options: { readyWhen: 'ready', ...listens() },
    async script (stage) {
      await stage.makeReady('0a')
      stage.tell('0a', { do: 'disconnect' })
      await stage.gone('0a')
      await stage.makeReady('0b')
    }
  },

  'cluster.worker.disconnect() in the worker': {
    options: listens(),
    async script (stage) {
      await stage.serving('0a')
      stage.tell('0a', { do: 'leave' })
      await stage.gone('0a')
      await stage.serving('0b')
    }
  },

  'the message disconnect of the worker': {
    options: listens(['answers a disconnect']),
    async script (stage) {
      await stage.serving('0a')
      stage.tell('0a', { do: 'fail' })
      await stage.gone('0a')
      await stage.serving('0b')
    }
  },

  reload: {
    options: listens(['answers a disconnect']),
    async script (stage) {
      await stage.serving('0a')
      await stage.reload()
      await stage.serving('0b')
      await stage.gone('0a')
    }
  },

  'reload of two workers': {
    options: { workers: 2, ...listens() },
    async script (stage) {
      await stage.serving('0a', '1a')
      await stage.reload()
      await stage.serving('0b', '1b')
      await stage.gone('0a', '1a')
    }
  },

  'reload of a worker that does not end': {
    options: { timeout: 0.2, ...listens(['stay']) },
    async script (stage) {
      await stage.serving('0a')
      await stage.reload()
      await stage.serving('0b')
      await stage.gone('0a')
    }
  },

  'reload with a negative timeout': {
    options: { timeout: -1, ...listens(['stay']) },
    async script (stage) {
      await stage.serving('0a')
      await stage.reload()
      await stage.serving('0b')
      await stage.gone('0a')
    }
  },

  'reload of broken code': {
    file: 'listens',
    options: { respawn: 1 },
    async script (stage) {
      await stage.serving('0a')
      stage.write('throws')
      const reloaded = stage.reload()
      await stage.gone('0b', '0c', '0d')
      await Promise.race([reloaded, stage.until('0e', 'node fork')])
    }
  },

  'reload of broken code, mended': {
    file: 'listens',
    options: { respawn: 2 },
    async script (stage) {
      await stage.serving('0a')
      stage.write('throws')
      const reloaded = stage.reload()
      await stage.until('0b', 'node exit')
      stage.write('listens')
      await reloaded
      await stage.gone('0a')
    }
  },

  'a reload during a reload': {
    options: { readyWhen: 'ready', respawn: 0.3, ...listens() },
    async script (stage) {
      await stage.makeReady('0a')
      const reloaded = [stage.reload('the first'), stage.reload('the second')]
      await stage.until('0c', 'object listening')
      await Promise.race([stage.until('0b', 'object listening'), stage.gone('0b')])
      if (stage.worker('0b').isConnected()) stage.tell('0b', { do: 'ready' })
      await stage.gone('0b')
      await stage.makeReady('0c')
      await Promise.all(reloaded)
      await stage.gone('0a')
    }
  },

  'a crash during a reload': {
    options: { readyWhen: 'ready', respawn: 60, ...listens() },
    async script (stage) {
      await stage.makeReady('0a')
      const reloaded = stage.reload()
      stage.tell('0a', { do: 'exit', status: 3 })
      await stage.gone('0a')
      await stage.makeReady('0b')
      await reloaded
    }
  },

  terminate: {
    options: listens(['stay']),
    async script (stage) {
      await stage.serving('0a')
      await stage.terminate()
      await stage.gone('0a')
    }
  },

  'terminate before run': {
    isNotRun: true,
    script: (stage) => stage.terminate()
  },

  stop: {
    options: listens(),
    async script (stage) {
      await stage.serving('0a')
      stage.note(`stop gives ${stage.made.stop()}`)
      await stage.echo('0a', 'still heard')
      stage.tell('0a', { do: 'exit', status: 3 })
      await stage.gone('0a')
    }
  },

  'run after stop': {
    options: listens(),
    async script (stage) {
      await stage.serving('0a')
      stage.made.stop()
      stage.tell('0a', { do: 'exit', status: 3 })
      await stage.gone('0a')
      stage.note(`run gives ${stage.made.run()}`)
      await stage.serving('0b')
      await stage.echo('0b', 'heard')
      stage.tell('0b', { do: 'exit', status: 3 })
      await stage.gone('0b')
      await stage.serving('0c')
    }
  },

  'terminate after stop': {
    options: listens(),
    async script (stage) {
      await stage.serving('0a')
      stage.made.stop()
      await stage.terminate()
      await stage.gone('0a')
    }
  },

  messages: {
    async script (stage) {
      await stage.until('0a', 'object online')
      const messages = ['text', 1.5, true, false, null, [1, { a: [] }], { nested: { deep: 'ü' } }, { cmd: 'ready' }, { cmd: 'NODE_' }]
      for (const message of messages) await stage.echo('0a', message)
    }
  },

  'messages that are more than JSON': {
    settings: { serialization: 'advanced' },
    options: listens(),
    async script (stage) {
      await stage.serving('0a')
      const circle = { name: 'circle' }
      circle.circle = circle
      const messages = ['text', 1.5, null, [1, , undefined], circle, { cmd: 'NODE_', n: 1n }] // eslint-disable-line no-sparse-arrays
      const values = { buffer: Buffer.from('b'), map: new Map([[1, new Set(['x'])]]), date: new Date(0), typed: new Float64Array([0.5]) }
      for (const message of [...messages, values]) await stage.echo('0a', message)
      await stage.reload()
      await stage.serving('0b')
      await stage.gone('0a')
    }
  },

  'args and execArgv': {
    options: { args: ['one', '--two=3', ''], execArgv: ['--no-warnings', '--stack-size=900'] },
    async script (stage) {
      await stage.until('0a', 'object online')
      stage.tell('0a', { do: 'tell', env: ['WORKER_ID'] })
      await stage.until('0a', 'object message')
    }
  },

  'without execArgv, under a host that has some': {
    hostArgv: ['--stack-size=900'],
    async script (stage) {
      await stage.until('0a', 'object online')
      stage.tell('0a', { do: 'tell' })
      await stage.until('0a', 'object message')
    }
  },

  'settings that change before a respawn': {
    options: { args: ['listen'], execArgv: [] },
    async script (stage) {
      await stage.serving('0a')
      process.env.RECLUSTER_TEST_COLOUR = 'blue'
      cluster.settings.args.push('more')
      cluster.settings.execArgv = ['--no-warnings']
      stage.tell('0a', { do: 'exit', status: 3 })
      await stage.gone('0a')
      await stage.serving('0b')
      stage.tell('0b', { do: 'tell', env: ['RECLUSTER_TEST_COLOUR'] })
      await stage.until('0b', 'object message')
    }
  },

  'a socket that the host has as a descriptor': {
    lends: 'tcp',
    options: { workers: 2, args: ['listen on 4', 'stay'] },
    async script (stage) {
      await stage.serving('0a', '1a')
      await stage.reload()
      await stage.serving('0b', '1b')
      await stage.end('0a', '1a')
    }
  },

  'a unix socket that the host has as a descriptor': {
    lends: 'unix',
    options: { args: ['listen on 4'] },
    script: (stage) => stage.serving('0a')
  },

  'standard descriptors': {
    async script (stage) {
      await stage.until('0a', 'object online')
      stage.tell('0a', { do: 'looks at its descriptors' })
      await stage.until('0a', 'object message')
    }
  },

  'standard descriptors that are ignored': {
    settings: { stdio: ['ignore', 'inherit', 'ignore', 'ipc'] },
    async script (stage) {
      await stage.until('0a', 'object online')
      stage.tell('0a', { do: 'looks at its descriptors' })
      await stage.until('0a', 'object message')
    }
  },

  "Node's module, in the host and in a worker": {
    isLinked: true,
    file: 'listens',
    async script (stage) {
      await stage.serving('0a')
      const { isMaster, isPrimary, isWorker, schedulingPolicy } = cluster
      stage.note(JSON.stringify({ isMaster, isPrimary, isWorker, schedulingPolicy }))
      stage.tell('0a', { do: 'looks around' })
      await stage.until('0a', 'object message')
    }
  },

  'worker.disconnect() after stop': {
    options: listens(['stay']),
    async script (stage) {
      await stage.serving('0a')
      stage.made.stop()
      stage.worker('0a').disconnect()
      await stage.end('0a')
    }
  },

  'a worker that disconnects itself after stop': {
    options: listens(['stay']),
    async script (stage) {
      await stage.serving('0a')
      stage.made.stop()
      stage.tell('0a', { do: 'leave' })
      await stage.end('0a')
    }
  },

  'a file without its ending, and options as text from the environment': {
    file: 'listens',
    isBare: true,
    options: { workers: '2', respawn: '1', backoff: 5000, timeout: '30' },
    script: (stage) => stage.serving('0a', '1a')
  },

  'workers that log through their host, which shows one of them': {
    options: { workers: 2 },
    async script (stage) {
      const { made } = stage
      made.on('message', (worker, { words }) => stage.note(`${words.join(' ')}, of the first: ${worker === made.workers()[0]}`))
      await stage.until('0a', 'object online')
      await stage.until('1a', 'object online')
      await stage.echo('0a', { action: 'log', words: ['one', 'two'] })
      await stage.echo('1a', { action: 'log', words: ['three'] })
    }
  },

  'what one worker says is passed on to all': {
    options: { workers: 2 },
    async script (stage) {
      const { made } = stage
      await stage.until('0a', 'object online')
      await stage.until('1a', 'object online')
      for (const worker of made.workers()) {
        worker.process.on('message', ({ news }) => {
          if (news) made.workers().forEach(({ process }) => process.send({ do: 'say', message: { heard: news } }))
        })
      }
      stage.tell('0a', { do: 'say', message: { news: 'of the day' } })
      await stage.until('0a', /^object message.*heard/)
      await stage.until('1a', /^object message.*heard/)
    }
  },

  'a worker that ignores what it is told': {
    options: { readyWhen: 'ready', timeout: 0.2, ...listens(['stay']) },
    async script (stage) {
      await stage.makeReady('0a')
      stage.tell('0a', { do: 'fail' })
      await stage.gone('0a')
      await stage.makeReady('0b')
    }
  }
}

module.exports = { scenarios }
