'use strict';

// Reads and checks what the user says of a cluster. Where the reference had the option, whatever it took is taken, and
// means the same: 0, '' and false are the default, '4' is 4, true is 1.

const os = require('os');
const { brief } = require('./brief');
const { nearest } = require('./nearest');
const scheduling = require('./scheduling');

const DEVELOPMENT_TIMEOUT = 1;
const PRODUCTION_TIMEOUT = 3600;
/** Read once, as the reference does: when the package is required. */
const DEFAULT_TIMEOUT = process.env.NODE_ENV === 'production' ? PRODUCTION_TIMEOUT : DEVELOPMENT_TIMEOUT;
/** Defaults, and those where source is watched: whoever has saved a file waits for nothing. */
const USUAL = { timeout: DEFAULT_TIMEOUT, attempts: 3, bake: 0 };
const WATCHING = { timeout: 0, attempts: 1, bake: 0.1 };
/** The longest span, in seconds: ten years. What is longer, such as Infinity, means this. */
const LONGEST = 10 * 365 * 24 * 3600;
const MOST_WORKERS = 1024;

/** The options that version 1 had, and those that are new. */
const OLD = ['workers', 'timeout', 'respawn', 'backoff', 'readyWhen', 'args', 'execArgv', 'log', 'logger'];
const NEW = [
  'surge', 'bootLimit', 'attempts', 'readyTimeout', 'bake', 'killTimeout', 'exitGrace', 'stopTimeout', 'maxDraining', 'drainHttp', 'idleGrace',
  'acceptAfterStop', 'balance', 'stickyBy', 'peekBytes', 'peekTimeout', 'peekConnections', 'maxMemory', 'maxLifetime', 'readyCheck',
  'checkInterval', 'checkTimeout', 'instanceEnv', 'env', 'envFile', 'ownGroup',
  'compileCache', 'compileCacheSize', 'on', 'admin', 'adminHost', 'adminTokenFile', 'systemd', 'workerMetrics',
  'watch', 'reloadOn',
];
const NAMES = new Set([...OLD, ...NEW]);

/**
 * What the options say of how a cluster is to be run, without anything that is left to the engine. Spans are seconds.
 * @param {object} options
 * @param {boolean} watches whether source is watched, which changes some defaults
 * @throws {TypeError | RangeError} one line that names the option
 */
function read(options, watches = watched(options).watches) {
  const usual = watches ? WATCHING : USUAL;
  const timeout = whatever(options, 'timeout') ?? usual.timeout;
  const backoff = whatever(options, 'backoff') || undefined;
  return {
    workers: countOfWorkers(options, watches),
    readyWhen: oneOf(options, 'readyWhen', ['listening', 'started', 'ready']) ?? 'listening',
    timeout,
    respawn: Math.min(whatever(options, 'respawn') ?? 1, backoff ?? Infinity),
    backoff,
    surge: surge(options),
    bootLimit: bootLimit(options),
    attempts: count(options, 'attempts') ?? usual.attempts,
    readyTimeout: seconds(options, 'readyTimeout', 0.001) ?? 60,
    lateFails: (options.readyTimeout ?? undefined) !== undefined,
    killTimeout: seconds(options, 'killTimeout', 0) ?? 5,
    exitGrace: seconds(options, 'exitGrace', 0) ?? timeout,
    stopTimeout: seconds(options, 'stopTimeout', 0),
    bake: seconds(options, 'bake', 0) ?? usual.bake,
    maxDraining: count(options, 'maxDraining'),
    drainHttp: flag(options, 'drainHttp') ?? true,
    idleGrace: seconds(options, 'idleGrace', 0),
    ...balancing(options),
    acceptAfterStop: seconds(options, 'acceptAfterStop', 0) ?? 0,
    maxMemory: memory(options),
    maxLifetime: seconds(options, 'maxLifetime', 0.001),
    readyCheck: text(options, 'readyCheck'),
    checkInterval: seconds(options, 'checkInterval', 0.01),
    checkTimeout: seconds(options, 'checkTimeout', 0.001),
    instanceEnv: text(options, 'instanceEnv'),
    ownGroup: flag(options, 'ownGroup') ?? false,
    compileCache: compileCache(options),
    compileCacheSize: count(options, 'compileCacheSize'),
    on: hooks(options),
    ...admin(options),
    systemd: (flag(options, 'systemd') ?? true) ? 'butForItsEnd' : undefined,
    workerMetrics: workerMetrics(options),
  };
}

/** Arguments for the worker's script, or for node. */
function list(options, name) {
  const value = options[name] || [];
  if (!Array.isArray(value)) throw wrong(TypeError, name, 'an array of strings', value);
  const texts = value.map(String);
  if (texts.some((text) => text.includes('\0'))) throw wrong(TypeError, name, 'strings without a NUL', value);
  // Half of a surrogate pair becomes what Node makes of it.
  return texts.map((text) => Buffer.from(text).toString());
}

/** Variables for workers beside the environment of this process. One that is undefined is left out, as Node does. */
function variables(options) {
  const value = options.env ?? {};
  if (typeof value !== 'object' || Array.isArray(value)) throw wrong(TypeError, 'env', 'an object', value);
  const given = Object.entries(value).filter(([, text]) => text !== undefined);
  return Object.fromEntries(given.map(([name, text]) => {
    if (`${text}`.includes('\0')) throw new TypeError(`recluster: the option env must be strings without a NUL, and ${name} has one`);
    return [name, Buffer.from(`${text}`).toString()];
  }));
}

/** The names of files of variables. */
function envFiles(options) {
  const value = options.envFile ?? [];
  const files = Array.isArray(value) ? value : [value];
  if (files.every((file) => typeof file === 'string' && file !== '')) return files;
  throw wrong(TypeError, 'envFile', 'a path or an array of paths', value);
}

/** Files whose change is a reload: source, around the server or at paths, and what is deployed. */
function watched(options) {
  const value = options.watch || undefined;
  const sources = paths('watch', value === true ? [] : value ?? [], 'true, a path or an array of paths');
  const watch = value === true ? ['project'] : sources.map((path) => ({ in: path }));
  return { watch, reloadOn: paths('reloadOn', options.reloadOn ?? [], 'a path or an array of paths'), watches: watch.length > 0 };
}

function paths(name, value, wanted) {
  const files = Array.isArray(value) ? value : [value];
  if (files.every((file) => typeof file === 'string' && file !== '' && !file.includes('\0'))) return files;
  throw wrong(TypeError, name, wanted, value);
}

/** What is done when something happens: `EVENT=exec:COMMAND` or `EVENT=http://HOST/PATH`, one or several. The engine reads them. */
function hooks(options) {
  const value = options.on ?? [];
  const hooks = Array.isArray(value) ? value : [value];
  if (hooks.every((hook) => typeof hook === 'string' && !hook.includes('\0'))) return hooks;
  throw wrong(TypeError, 'on', "a string as 'crashed=exec:COMMAND' or an array of such", value);
}

/** Where the admin listener is, by which names it may be asked, and which file has the token that allows changes. */
function admin(options) {
  const value = options.admin || undefined;
  // A port may be written as a number.
  const address = typeof value === 'number' ? `${value}` : text({ admin: value }, 'admin');
  const hosts = options.adminHost ?? [];
  const names = Array.isArray(hosts) ? hosts : [hosts];
  if (!names.every((name) => typeof name === 'string' && name !== '')) {
    throw wrong(TypeError, 'adminHost', 'a name or an array of names', hosts);
  }
  const file = text(options, 'adminTokenFile');
  for (const [name, isGiven] of [['adminHost', names.length > 0], ['adminTokenFile', file !== undefined]]) {
    if (address === undefined && isGiven) throw wrong(RangeError, name, 'left out without `admin`', options[name]);
  }
  return { admin: address, adminHosts: names, adminTokenFile: file };
}

/** What workers say of themselves. */
function workerMetrics(options) {
  const value = oneOf(options, 'workerMetrics', ['off', 'basic', 'http']);
  if (value !== undefined && value !== 'off' && options.drainHttp === false) {
    throw wrong(RangeError, 'workerMetrics', 'left out where `drainHttp` is false', value);
  }
  return value;
}

/** What logs, and whether respawns are logged. */
function logging(options) {
  const logger = options.logger || console;
  const respawns = Boolean((options.log || { respawns: true }).respawns);
  if (respawns && typeof logger.log !== 'function') {
    throw wrong(TypeError, 'logger', 'an object with a method `log`', logger);
  }
  return { logger, respawns };
}

/** How many slots: a fraction, such as half of three cores, counts as one more. */
function countOfWorkers(options, watches = watched(options).watches) {
  const usual = watches ? 1 : os.cpus().length || 1;
  const workers = options.workers ? numeric(options, 'workers') : usual;
  if (!(workers > 0 && workers <= MOST_WORKERS)) {
    throw wrong(RangeError, 'workers', `a number above 0 and at most ${MOST_WORKERS}`, options.workers);
  }
  return Math.ceil(workers);
}

/** How connections reach workers, and by what clients are known. */
function balancing(options) {
  const balance = oneOf(options, 'balance', ['round-robin', 'shared', 'kernel', 'sticky']) ?? nodesBalance();
  const stickyBy = text(options, 'stickyBy');
  if (stickyBy !== undefined && balance !== 'sticky') {
    throw wrong(RangeError, 'stickyBy', "left out where `balance` is not 'sticky'", stickyBy);
  }
  return {
    balance,
    stickyBy,
    peekBytes: count(options, 'peekBytes'),
    peekTimeout: seconds(options, 'peekTimeout', 0),
    peekConnections: count(options, 'peekConnections'),
  };
}

/** Where workers keep compiled code: where the environment says, or in a directory. */
function compileCache(options) {
  const value = options.compileCache || undefined;
  if (value === undefined) return undefined;
  if (value !== true && typeof value !== 'string') throw wrong(TypeError, 'compileCache', 'true, false or a directory', value);
  if (options.drainHttp === false) {
    throw wrong(RangeError, 'compileCache', 'left out where `drainHttp` is false', value);
  }
  return value === true ? 'usual' : { in: value };
}

/** As somebody has told Node's own module. */
function nodesBalance() {
  const chosen = scheduling.chosen();
  if (chosen === undefined) return 'kernel';
  return chosen === scheduling.SCHED_NONE ? 'shared' : 'round-robin';
}

function surge(options) {
  return options.surge === 'all' ? undefined : count(options, 'surge', "a whole number from 1 on, or 'all'");
}

function bootLimit(options) {
  return options.bootLimit === 'max' ? usableCores() : count(options, 'bootLimit', "a whole number from 1 on, or 'max'");
}

/** Node below 18.14 counts all cores. */
function usableCores() {
  return os.availableParallelism?.() ?? (os.cpus().length || 1);
}

/** A span as the reference takes it: 0 is none, what is negative is at once. */
function whatever(options, name) {
  const value = options[name] ? numeric(options, name) : 0;
  return value === 0 ? undefined : Math.min(Math.max(value, 0), LONGEST);
}

/** A number as the reference takes it: `true` counts as one. */
function numeric(options, name) {
  return options[name] === true ? 1 : number(options, name);
}

function seconds(options, name, least) {
  const value = number(options, name);
  if (value === undefined) return undefined;
  if (value < least) {
    const wanted = least === 0.001 ? 'a number of seconds above 0' : `a number of seconds, ${least} or more`;
    throw wrong(RangeError, name, wanted, value);
  }
  return Math.min(value, LONGEST);
}

function count(options, name, wanted = 'a whole number from 1 on') {
  const value = number(options, name, wanted);
  if (value !== undefined && !(Number.isSafeInteger(value) && value >= 1)) {
    throw wrong(RangeError, name, wanted, value);
  }
  return value;
}

/** How much memory a worker may use: a number of bytes, or a share as `80%`. */
function memory(options) {
  const value = options.maxMemory;
  const share = typeof value === 'string' ? /^(100|[1-9]\d?)%$/.exec(value) : null;
  if (share) return { percent: Number(share[1]) };
  const bytes = count(options, 'maxMemory', "a whole number of bytes from 1 on, or a share as '80%'");
  return bytes === undefined ? undefined : { bytes };
}

function number(options, name, wanted = 'a number') {
  const value = options[name];
  if (value === undefined || value === null) return undefined;
  const isNumeric = typeof value === 'number' || (typeof value === 'string' && value.trim() !== '');
  if (!isNumeric || Number.isNaN(Number(value))) throw wrong(TypeError, name, wanted, value);
  return Number(value);
}

function flag(options, name) {
  const value = options[name] ?? undefined;
  if (value !== undefined && typeof value !== 'boolean') throw wrong(TypeError, name, 'true or false', value);
  return value;
}

function text(options, name) {
  const value = options[name] ?? undefined;
  if (value !== undefined && typeof value !== 'string') throw wrong(TypeError, name, 'a string', value);
  return value;
}

function oneOf(options, name, words) {
  const value = options[name] || undefined;
  if (value !== undefined && !words.includes(value)) {
    const wanted = words.map((word) => `'${word}'`).join(' or ');
    throw wrong(typeof value === 'string' ? RangeError : TypeError, name, wanted, value);
  }
  return value;
}

function wrong(Kind, name, wanted, value) {
  return new Kind(`recluster: the option ${name} must be ${wanted}, not ${brief(value)}`);
}

/** Names that are no options, each with the option that is probably meant. */
function unknown(options) {
  return Object.keys(options)
    .filter((name) => !NAMES.has(name))
    .map((name) => ({ name, meant: nearest(name, NAMES) }));
}

/** The names of the options that are given, and new. */
function news(options) {
  return NEW.filter((name) => options[name] !== undefined && options[name] !== null);
}

module.exports = { countOfWorkers, envFiles, list, logging, news, read, unknown, variables, watched };
