'use strict';

// What the logger is told.

const path = require('path');

const { workingDirectory } = require('./names');
const { ours } = require('./terms');

/** The line of the reference, which people's filters look for: a text and a number of milliseconds. */
function respawning({ worker, delay_seconds: delay }) {
  const { id, slot, pid } = worker;
  return [`[${pid ?? undefined}] worker (${slot}:${id}) must be replaced, respawning in`, Math.round(delay * 1000)];
}

/** What else is worth a line; undefined if it is nothing. */
function line(note) {
  switch (note.event) {
    case 'failed':
      // Of others, how they ended is to be seen.
      return note.failure.worker.pid === null ? `recluster: ${failure(note.failure)}` : undefined;
    case 'address_taken':
      return ours(`recluster: ${named(note.worker)} did not get its address: ${note.reason}`);
    case 'late':
      return `recluster: ${named(note.worker)} is not ready yet`;
    case 'cut_off':
      return `recluster: ${named(note.worker)} was cut off: ${note.reason}`;
    case 'message_skipped':
      return `recluster: ${named(note.worker)} ${tooLong(note)}`;
    case 'reloaded':
      return verdict(note);
    case 'moved':
      return `recluster: ${note.gone} is gone: workers are started from ${note.server} from now on`;
    case 'preload_missing':
      return `recluster: requests may be lost when workers leave: ${note.reason}`;
    case 'compile_cache_off':
      return `recluster: workers keep no compiled code: ${note.reason}`;
    case 'unhealthy':
      return `recluster: ${named(note.worker)} fails its check and is replaced: ${note.reason}`;
    case 'admin_exposed':
      return `recluster: other machines may reach the admin listener at ${note.address}, and read the metrics and the status there`;
    case 'hook_failed':
      return `recluster: the hook for ${note.on} failed (${note.hook}): ${note.reason}`;
    case 'files_changed':
      return `recluster: ${changed(note)}: reload`;
    case 'held':
      return `recluster: ${named(note.worker)} is started again by the next change`;
    case 'watch_limited':
      return `recluster: ${note.reason}`;
    case 'panicked':
      return `recluster: ${panicked(note)}`;
    case 'replace_failed':
      return `recluster: a worker could not be renewed: ${failure(note.failure)}`;
    default:
      return undefined;
  }
}

/** Files below the working directory are named from there. */
function changed({ files, more }) {
  const here = `${workingDirectory()}${path.sep}`;
  const names = files.map((file) => (file.startsWith(here) ? file.slice(here.length) : file)).join(', ');
  const others = more > 0 ? ` and ${more} more` : '';
  return `${names}${others} ${files.length + more > 1 ? 'have' : 'has'} changed`;
}

function verdict(note) {
  switch (note.verdict) {
    case 'rolled_back':
      return `recluster: reload rolled back, the old workers serve on: ${failure(note.failure)}`;
    case 'stopped_part_way':
      return `recluster: reload stopped at ${note.replaced} of ${note.of}: ${failure(note.failure)}`;
    case 'refused':
      return ours(`recluster: reload refused: ${note.reason}`);
    default:
      return undefined;
  }
}

function tooLong({ bytes, ended }) {
  return ended
    ? `sent a message of ${bytes} bytes, which is too long and was skipped`
    : `sends a message that does not end; its first ${bytes} bytes were skipped`;
}

/** A part of the engine has panicked. */
function panicked({ part, reason, place, ends }) {
  const then = ends ? 'the cluster ends' : 'nothing else ends';
  return `${part} has panicked, which is a fault of recluster, and ${then}: ${reason}${place ? ` (at ${place})` : ''}`;
}

/** An option that is none. */
function unknownOption(name, meant) {
  return `recluster: there is no option ${name}${meant ? `; ${meant} is probably meant` : ''}`;
}

function failure({ worker, reason, hint }) {
  return ours(`${named(worker)} ${reason}${hint ? ` (${hint})` : ''}`);
}

function named({ id, slot, pid }) {
  return `worker ${id} (slot ${slot}${pid ? `, pid ${pid}` : ''})`;
}

module.exports = { line, panicked, respawning, unknownOption };
