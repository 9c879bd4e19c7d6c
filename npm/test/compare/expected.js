// The differences between the reference and ours that are meant. Each says why, and covers the rows that fit what it names;
// a state of null means that this side says nothing there. One that covers nothing any more fails the test, as does a
// difference that none covers.
'use strict'

const DEATHS = [
  'crash', 'killed by the host', 'worker.disconnect() by the host', 'process.disconnect() in the worker',
  'cluster.worker.disconnect() in the worker', 'the message disconnect of the worker', 'run after stop',
  'a worker that ignores what it is told', 'settings that change before a respawn', 'a crash during a reload'
]

const expected = [
  {
    why: 'Node tells of the settings at each cluster.fork() as well; ours at each run() and reload()',
    about: 'cluster', text: /^node setup/, ours: null, moved: false
  },
  {
    why: 'the listening socket outlives the last worker, so a port of the kernel\'s choice stays: the reference chooses anew',
    scenarios: DEATHS, about: /^0[bc]$/, text: /PORT [23]/, ours: null
  },
  {
    why: 'the same, on our side',
    scenarios: DEATHS, about: /^0[bc]$/, text: /PORT [12]/, reference: null
  },
  {
    why: 'a worker becomes ready once, whatever else it listens on or says later',
    scenarios: ['a server on two ports', 'a worker that listens before it is ready and says it twice'],
    text: /^object ready/, ours: null, moved: false
  },
  {
    why: 'a worker is ready when the engine has heard it say so, and everybody has heard the message',
    text: /^object ready\(0., \{ cmd: 'ready' \}\)/, moved: true
  },
  {
    why: 'the same: until then it does not hold its slot',
    text: /^(worker|process) message\(\{ cmd: 'ready' \}/, reference: /slot: 0/
  },
  {
    why: 'whether a worker is replaced is decided when it is known how it has ended, which its closed channel alone does not tell',
    text: /^logs '\[PID\] worker/, moved: true
  },
  {
    why: 'a worker that begins to leave by itself is replaced at once, not when it has closed its channel, and is let go as any other',
    scenarios: ['cluster.worker.disconnect() in the worker'], about: '0a', text: /disconnect/, ours: /^workers, cluster.workers, slot: null, disconnected/
  },
  {
    why: 'a worker that calls process.disconnect() leaves by itself and answers what it has; in the reference it exits at once, in the middle of requests',
    scenarios: ['process.disconnect() in the worker'], about: '0a', text: /disconnect|exit|close/,
    reference: /exitedAfterDisconnect: false/, ours: /exitedAfterDisconnect: true/
  },
  {
    why: 'a worker that says it is failing is let go by the engine, a moment after its message was heard; what replaces it may be there by then',
    scenarios: ['the message disconnect of the worker', 'a worker that ignores what it is told'],
    about: '0a', text: /^(worker|process) message|disconnect|exit|close/, reference: /exitedAfterDisconnect: true/, ours: /slot:/,
    // The moment may be before or after the message has been heard by everybody.
    orMoved: true
  },
  {
    why: 'code that never works is rolled back, and the callback is told; the reference starts it for ever',
    scenarios: ['reload of broken code'], about: 'cluster', text: /reload rolled back|ERR_RECLUSTER_ROLLED_BACK/, reference: null
  },
  {
    why: 'the same: a fourth attempt is not made',
    scenarios: ['reload of broken code'], about: /^0[de]$/, text: /^node fork|^logs/, ours: null
  },
  {
    why: 'the newer reload supersedes the older one, whose worker leaves at once; in the reference the first worker that is ready counts for both, ' +
      'which disconnects the old one twice, and the new one as well',
    scenarios: ['a reload during a reload'], about: /^0[ab]$/
  },
  {
    why: 'the same: it begins when the time between two respawns has passed, so that a storm of reloads ends',
    scenarios: ['a reload during a reload'], about: 'cluster', text: /^the second gives/
  },
  {
    why: 'the same: both callbacks hear the verdict of the newer one, when its worker serves',
    scenarios: ['a reload during a reload'], about: 'cluster', text: /^the callback/
  },
  {
    why: 'the same: while the newer one starts, the old worker holds its slot; in the reference nobody does',
    scenarios: ['a reload during a reload'], about: '0c', reference: /slot: null/, ours: /slot: 0a/
  },
  {
    why: 'while a reload goes on, nobody is started with the old code',
    scenarios: ['a crash during a reload'], about: '0a', text: /^logs/, ours: null, moved: false
  },
  {
    why: 'a worker inherits the arguments of its host for node, as Node\'s own cluster has it; in the reference it has none',
    scenarios: ['without execArgv, under a host that has some'], text: /execArgv: \[\]/, ours: null
  },
  {
    why: 'the same, on our side',
    scenarios: ['without execArgv, under a host that has some'], text: /execArgv: \[ '--stack-size=900' \]/, reference: null
  },
  {
    why: 'terminate calls back when the last one has left the lists',
    scenarios: ['terminate', 'terminate after stop'], about: 'cluster', text: /^the callback of terminate/
  }
]

module.exports = { expected }
