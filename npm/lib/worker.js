'use strict';

// A worker as Node shows one: an instance of cluster.Worker, which is wired to its process, to cluster.workers and to the
// events of the cluster module as cluster.fork() does it.

const cluster = require('cluster');

const { emit } = require('./faults');

/** Those that have asked to be replaced, and those that leave by themselves. */
const failing = new WeakSet();
const leaving = new WeakSet();

/**
 * @param {number} id
 * @param {number} slot
 * @param {import('./process')} child
 * @param {import('./link').Listener} listener whom the cluster's own users hear, behind those of Node's module
 * @returns {import('cluster').Worker}
 */
function create(id, slot, child, listener) {
  const worker = new cluster.Worker({ id, process: child });
  // By these names the reference keeps them, and other packages read them.
  worker._rc_wid = slot;
  worker._rc_isReplaced = false;

  worker.on('message', (message) => message?.cmd === 'disconnect' && failing.add(worker));
  worker.on('message', (message, handle) => emit(cluster, 'message', worker, message, handle));

  child.once('exit', (code, signal) => {
    // One that is still connected may still say something.
    if (!worker.isConnected()) forget(worker);
    worker.exitedAfterDisconnect = Boolean(worker.exitedAfterDisconnect);
    worker.state = 'dead';
    emit(worker, 'exit', code, signal);
    emit(cluster, 'exit', worker, code, signal);
    listener.happened('exit', worker);
  });
  child.once('exit', () => listener.gone(worker));

  child.once('disconnect', () => {
    if (worker.isDead()) forget(worker);
    worker.exitedAfterDisconnect = Boolean(worker.exitedAfterDisconnect);
    worker.state = 'disconnected';
    emit(worker, 'disconnect');
    emit(cluster, 'disconnect', worker);
    listener.happened('disconnect', worker);
  });

  cluster.workers[id] = worker;
  process.nextTick(() => emit(cluster, 'fork', worker));
  return worker;
}

/** It has said its first word. */
function online(worker) {
  worker.state = 'online';
  emit(worker, 'online');
  emit(cluster, 'online', worker);
}

/** A server of it listens. */
function listening(worker, address) {
  worker.state = 'listening';
  emit(worker, 'listening', address);
  emit(cluster, 'listening', worker, address);
}

/** It leaves by itself, or has asked to be replaced. */
function retires(worker) {
  if (failing.has(worker)) return;
  leaving.add(worker);
  worker.exitedAfterDisconnect = true;
}

/**
 * It has been told to disconnect: what Node's `worker.disconnect()` changes is changed. One that leaves by itself is in
 * `cluster.workers` until it has ended.
 */
function leave(worker) {
  worker.exitedAfterDisconnect = true;
  if (!leaving.has(worker)) forget(worker);
}

function forget(worker) {
  delete cluster.workers[worker.id];
  // Without workers this does nothing but tell those who wait for the last one, who gave cluster.disconnect() a callback.
  if (Object.keys(cluster.workers).length === 0) cluster.disconnect();
}

module.exports = { create, leave, listening, online, retires };
