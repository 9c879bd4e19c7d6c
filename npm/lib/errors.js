'use strict';

// The errors that users see: Node's own, where Node would throw them, and those of a reload.

const { inspect } = require('util');

const { ours } = require('./terms');

/**
 * An error as Node makes them: with a code, which its stack shows.
 * @param {ErrorConstructor} Base
 * @param {string} code
 * @param {string} message
 */
function nodeError(Base, code, message) {
  const error = new Base(message);
  error.code = code;
  error.stack = error.stack.replace(Base.name, `${Base.name} [${code}]`);
  return error;
}

const channelClosed = () => nodeError(Error, 'ERR_IPC_CHANNEL_CLOSED', 'Channel closed');

const alreadyDisconnected = () =>
  nodeError(Error, 'ERR_IPC_DISCONNECTED', 'IPC channel is already disconnected');

const missingArgument = (name) =>
  nodeError(TypeError, 'ERR_MISSING_ARGS', `The "${name}" argument must be specified`);

const wrongType = (name, wanted, value) =>
  nodeError(
    TypeError,
    'ERR_INVALID_ARG_TYPE',
    `The "${name}" argument must be ${wanted}. Received ${typeof value} (${inspect(value)})`,
  );

const oneOf = (name, allowed, value) =>
  nodeError(
    TypeError,
    'ERR_INVALID_ARG_VALUE',
    `The property '${name}' must be one of: ${allowed.map((each) => inspect(each)).join(', ')}. Received ${inspect(value)}`,
  );

const wrongHandle = () =>
  nodeError(TypeError, 'ERR_INVALID_HANDLE_TYPE', 'This handle type cannot be sent');

const unknownSignal = (signal) =>
  nodeError(TypeError, 'ERR_UNKNOWN_SIGNAL', `Unknown signal: ${signal}`);

/**
 * Why a reload, or something else that was asked of the engine, did not happen.
 * @param {{code: string, message: string, reason?: string, failure?: object, replaced?: number, of?: number}} answer
 */
function refusal({ code, message, reason, failure, replaced, of }) {
  if (!code.startsWith('ERR_RECLUSTER_')) return nodeError(Error, code, message);
  const error = new Error(`recluster: ${ours(message)}`);
  error.code = code;
  error.reason = ours(failure ? failure.reason : reason || message);
  error.stderr = failure ? failure.stderr : [];
  if (failure) {
    error.worker = failure.worker.id;
    error.slot = failure.worker.slot;
    if (failure.hint) error.hint = ours(failure.hint);
  }
  if (replaced !== undefined) Object.assign(error, { replaced, of });
  return error;
}

/** A reload that could not begin, because of what its user says. */
function refused(cause) {
  const reason = cause.message.replace(/^recluster: /, '');
  const error = refusal({ code: 'ERR_RECLUSTER_REFUSED', message: `reload refused: ${reason}`, reason });
  error.cause = cause;
  return error;
}

/** Something was asked of a cluster that does not run. */
const notRunning = (method) =>
  refusal({ code: 'ERR_RECLUSTER_NOT_RUNNING', message: `${method}() needs a running cluster: call run() first` });

/** The cluster was stopped before a reload had ended. */
const abandoned = () => refusal({ code: 'ERR_RECLUSTER_ABANDONED', message: 'the cluster was stopped during the reload' });

/** A part of the engine has panicked, and the cluster with all its workers has ended. */
const panicked = (message) => refusal({ code: 'ERR_RECLUSTER_PANICKED', message });

/** Something needs the native engine. */
const notInFallback = (what) =>
  refusal({ code: 'ERR_RECLUSTER_FALLBACK', message: `the fallback on Node's own cluster has no ${what}` });

module.exports = {
  abandoned,
  alreadyDisconnected,
  channelClosed,
  missingArgument,
  notInFallback,
  notRunning,
  oneOf,
  panicked,
  refusal,
  refused,
  unknownSignal,
  wrongHandle,
  wrongType,
};
