'use strict';

// Which engine this process has: the native one, or Node's own `cluster` under version 1 of this package, the fallback.

/** The systems for which the native engine is built. */
const BUILT = ['linux-x64-gnu', 'linux-x64-musl', 'linux-arm64-gnu', 'linux-arm64-musl'];

const CHOICES = ['native', 'fallback'];

/**
 * The engine for this process. Where a native one is built, the fallback is taken only when it is asked for: a missing file is
 * a mistake of the installation, and a production machine is not to run on less than was tested.
 * @returns {'native' | 'fallback'}
 * @throws {Error} one line, if RECLUSTER_ENGINE names none, or this is not node
 */
function choose() {
  const other = ['bun', 'deno'].find((runtime) => process.versions[runtime] !== undefined);
  if (other !== undefined) {
    throw new Error(
      `recluster: ${other} has no complete cluster module: run this file with node, or run the server without it: recluster --node ${other} FILE`,
    );
  }
  const asked = process.env.RECLUSTER_ENGINE;
  if (!asked) return process.env.RECLUSTER_ADDON || BUILT.includes(platform()) ? 'native' : 'fallback';
  if (CHOICES.includes(asked)) return asked;
  throw new Error(`recluster: RECLUSTER_ENGINE must be 'native' or 'fallback', not '${asked}'`);
}

/** What this process runs on: platform, architecture and, on Linux, the C library. */
function platform() {
  const name = `${process.platform}-${process.arch}`;
  if (process.platform !== 'linux') return name;
  const { header } = process.report.getReport();
  return `${name}-${header.glibcVersionRuntime ? 'gnu' : 'musl'}`;
}

module.exports = { BUILT, choose, platform };
