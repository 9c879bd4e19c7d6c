'use strict';

// What a generation of workers is started with: the server file, and what `cluster.settings` and the environment say at
// that moment.

const cluster = require('cluster');
const fs = require('fs');
const path = require('path');
const { fileURLToPath } = require('url');

const { brief } = require('./brief');
const { nameOf, workingDirectory } = require('./names');
const options = require('./options');
const { chosen } = require('./serialization');

/** The arguments that have node listen for a debugger, as Node itself recognises them. */
const INSPECTOR = /--inspect(?:-brk|-port)?|--debug-port/;

/** The lists that clusters of ours have told Node's cluster module. */
const told = new WeakSet();

/**
 * Tells Node's cluster module what is about to be started, as cluster.fork() would be told, and reads what it says of the
 * rest.
 * @param {string} file the server file
 * @param {object} said the options of the cluster
 * @param {{args: string[], execArgv: string[]}} defaults where these options are not given
 * @param {boolean} isRunning whether it was told before
 */
function describe(file, said, defaults, isRunning) {
  const cwd = directory(cluster.settings.cwd);
  const server = resolveServer(file, cwd);
  const variables = options.variables(said);
  const envFiles = options.envFiles(said);
  const { watch, reloadOn } = options.watched(said);
  const absolute = (named) => path.resolve(cwd ?? workingDirectory(), named);
  const lists = listsOf(said, defaults, isRunning);
  const start = started(lists);
  Object.values(lists).forEach((list) => told.add(list));
  cluster.setupPrimary({ exec: file, ...lists });
  return {
    server,
    node: process.execPath,
    ...start,
    variables,
    envFiles: envFiles.map(absolute),
    watch: watch.map((source) => (source.in === undefined ? source : { in: absolute(source.in) })),
    reloadOn: reloadOn.map(absolute),
  };
}

/**
 * The same plan for a worker that is started now: what the options, `cluster.settings` and the environment say of its start is what
 * they say now, as it is for one that Node's cluster forks.
 */
function refresh(plan, said, defaults) {
  return { ...plan, ...started(listsOf(said, defaults, true)) };
}

function started({ args, execArgv }) {
  const { settings } = cluster;
  return {
    args: options.list({ args }, 'args'),
    execArgv: [...options.list({ execArgv }, 'execArgv'), ...inspectorPort({ ...settings, execArgv })],
    env: { ...process.env },
    cwd: directory(settings.cwd),
    uid: number(settings, 'uid'),
    gid: number(settings, 'gid'),
    stdio: stdio(settings),
    serialization: chosen(settings),
  };
}

/**
 * The lists of arguments. What somebody has told Node's cluster module since a cluster of ours did comes before its options, as
 * for cluster.fork().
 */
function listsOf(said, defaults, isRunning) {
  const { args, execArgv } = cluster.settings;
  const theirs = [args, execArgv].map((list) => (Array.isArray(list) && !told.has(list) && list !== process.execArgv ? list : undefined));
  const [theirArgs, theirExecArgv] = theirs;
  return {
    args: (isRunning && theirArgs) || said.args || defaults.args,
    execArgv: (isRunning && theirExecArgv) || said.execArgv || theirExecArgv || defaults.execArgv,
  };
}

/** A user or a group. */
function number(settings, name) {
  const value = settings[name] ?? undefined;
  if (value === undefined || (Number.isInteger(value) && value >= 0 && value < 2 ** 32)) return value;
  throw new TypeError(`recluster: cluster.settings.${name} must be a number, not ${brief(value)}`);
}

function directory(cwd) {
  if (cwd === undefined || cwd === null) return undefined;
  return path.resolve(cwd instanceof URL ? fileURLToPath(cwd) : String(cwd));
}

/**
 * The file that `node FILE` runs: it may lack its ending, or be a directory. A symlink is left as it is: what it means is
 * looked up when a generation begins. (Node's own resolver would remember what it once meant.)
 */
function resolveServer(file, cwd) {
  const named = path.isAbsolute(file) ? nameOf(path.normalize(file)) : path.resolve(cwd ?? workingDirectory(), file);
  const candidates = [named, `${named}.js`, ...mainOf(named), path.join(named, 'index.js')];
  const server = candidates.find((candidate) => isFile(candidate));
  if (server === undefined) throw new Error(`recluster: server file not found: ${named}`);
  return server;
}

/** Where the entry point may be that a package names. */
function mainOf(folder) {
  try {
    const { main } = JSON.parse(fs.readFileSync(path.join(folder, 'package.json'), 'utf8'));
    const named = path.resolve(folder, main);
    return [named, `${named}.js`, path.join(named, 'index.js')];
  } catch {
    return [];
  }
}

function isFile(candidate) {
  const stat = fs.statSync(candidate, { throwIfNoEntry: false });
  return stat !== undefined && stat.isFile();
}

/**
 * Where workers are to be debugged, the port of the first slot; the engine gives each worker its own from there on. As in
 * Node's cluster module these are the ports behind the primary's, unless `inspectPort` says otherwise.
 */
function inspectorPort({ execArgv, inspectPort }) {
  const isUsed = execArgv.some((arg) => INSPECTOR.test(arg)) || INSPECTOR.test(process.env.NODE_OPTIONS || '');
  if (!isUsed) return [];
  const port = typeof inspectPort === 'function' ? inspectPort() : inspectPort;
  return [`--inspect-port=${Number.isInteger(port) ? port : process.debugPort + 1}`];
}

/** Where stdin, stdout and stderr of a worker go. */
function stdio({ stdio: said, silent }) {
  if (said === undefined || said === null) {
    return [0, 1, 2].map((number) => place(silent ? 'pipe' : 'inherit', number));
  }
  if (typeof said === 'string') return [0, 1, 2].map((number) => place(said, number));
  if (!Array.isArray(said)) throw badStdio(said);
  const more = said.slice(3).find((entry) => entry !== 'ipc' && entry !== 'ignore');
  if (more !== undefined) throw badStdio(more);
  return [0, 1, 2].map((number) => place(said[number], number));
}

function place(entry, number) {
  if (entry === undefined || entry === null || entry === 'pipe' || entry === 'overlapped') return 'pipe';
  // By number: Node has its own descriptors closed in whatever is started, unless that is given them.
  if (entry === 'inherit') return { fd: number };
  if (entry === 'ignore') return 'ignore';
  const fd = typeof entry === 'object' ? entry.fd ?? (entry._handle && entry._handle.fd) : entry;
  if (Number.isInteger(fd) && fd >= 0) return { fd };
  throw badStdio(entry);
}

function badStdio(entry) {
  return new TypeError(
    "recluster: cluster.settings.stdio takes 'inherit', 'pipe', 'ignore', a descriptor or a stream for each of stdin, " +
      `stdout and stderr, and nothing beyond them but 'ipc'; not ${brief(entry)}`,
  );
}

module.exports = { describe, refresh };
