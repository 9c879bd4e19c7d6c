'use strict';

// What this process was given, or has done to itself, and workers are to have as well: the arguments of its own node, and hooks
// that compile or that change how a process is started.

const childProcess = require('child_process');
const cluster = require('cluster');
const path = require('path');

const { isOurs } = require('./ids');

/** The arguments that say what this process runs, or how often. A worker runs its server, once. */
const OF_THIS_PROCESS =
  /^(?:-e|-p|-pe|-i|-c|--eval|--print|--interactive|--check|--input-type|--entry-url|--run|--build-s(?:napshot|ea).*|--(?:test|watch)(?:-.*)?)$/;
/** Those that load something before the server. */
const PRELOAD = /^(?:-r|--require|--import|--loader|--experimental-loader)(?:=|$)/;
/** What node compiles by itself, whoever else does. */
const NODES = ['.js', '.json', '.node', '.mjs', '.cjs'];

/** The arguments of this process for node, as far as they are for workers: as Node's cluster module inherits them. */
function inherited() {
  const args = [...process.execArgv];
  const kept = [];
  while (args.length > 0) {
    const arg = args.shift();
    if (!OF_THIS_PROCESS.test(arg.replace(/=.*/s, ''))) kept.push(arg);
    else if (!arg.includes('=') && isValue(args[0])) args.shift();
  }
  return kept;
}

/** Whether this is the value of the argument before it. */
function isValue(arg) {
  return arg !== undefined && (!arg.startsWith('-') || arg === process._eval);
}

/**
 * A line about what this process has patched or registered and the workers are started without; undefined if that is nothing, or
 * if something is loaded before their server.
 * @param {string} server the server file
 * @param {string[]} execArgv their arguments for node
 */
function lost(server, execArgv) {
  const options = (process.env.NODE_OPTIONS || '').split(/\s+/);
  if ([...execArgv, ...options].some((arg) => PRELOAD.test(arg))) return undefined;
  const ending = path.extname(server);
  const what = isCompiled(ending) ? `what compiles ${ending} files in this process` : patched();
  if (what === undefined) return undefined;
  return `recluster: ${what} does not reach workers: say \`execArgv: ['--require', '${registered() ?? '…'}']\``;
}

function isCompiled(ending) {
  return !NODES.includes(ending) && Object.keys(require.extensions).includes(ending);
}

/** What somebody has put in the place of the functions by which Node's cluster starts a worker. */
function patched() {
  const { ChildProcess, fork } = childProcess;
  const functions = [
    ['child_process.fork', fork, 'child_process'],
    ['ChildProcess.prototype.spawn', ChildProcess.prototype.spawn, 'internal/child_process'],
  ];
  const found = functions.filter(([, now, module]) => !isNodes(now, module)).map(([name]) => name);
  if (!isOurs(cluster.fork)) found.push('cluster.fork');
  return found.length > 0 ? `what was put in the place of ${found.join(' and ')}` : undefined;
}

/** Whether a function is written as the one in this module of Node's. Where that cannot be read, it is taken for one. */
function isNodes(now, module) {
  try {
    return process.binding('natives')[module].includes(String(now));
  } catch {
    return true;
  }
}

/** The module by which a compiler was registered, if it has the name that these have. */
function registered() {
  for (const file of Object.keys(require.cache)) {
    const [, name] = /[\\/]node_modules[\\/]((?:@[^\\/]+[\\/])?[^\\/]+)[\\/](?:.*[\\/])?register(?:\.js|[\\/][^\\/]+)$/.exec(file) || [];
    if (name !== undefined) return `${name}/register`;
  }
  return undefined;
}

module.exports = { inherited, lost };
