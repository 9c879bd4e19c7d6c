'use strict';

// Finds the engine: a native addon in the package for this platform, beside this package, beside the bundle that it became part
// of, or where RECLUSTER_ADDON says.

const fs = require('fs');
const path = require('path');

const { version } = require('../package.json');
const { platform } = require('./engines');

/** Under this name the process has its engine: several copies of one version are one, or each would count workers for itself. */
const SHARED = Symbol.for(`recluster.engine.${version}`);

process[SHARED] ??= load();
module.exports = process[SHARED];

function load() {
  const file = process.env.RECLUSTER_ADDON || find();
  const addon = { exports: {} };
  try {
    process.dlopen(addon, path.resolve(file));
  } catch (error) {
    throw new Error(`recluster: the engine cannot be loaded on ${platform()}: ${error.message}`);
  }
  return addon.exports;
}

function find() {
  const name = `recluster.${platform()}.node`;
  // In a bundle this file has the bundle's directory.
  const beside = [path.join(__dirname, '..', name), path.join(__dirname, name)];
  const file = beside.find((candidate) => fs.existsSync(candidate)) || inPackage(name);
  if (file === undefined) throw new Error(missing(name));
  return file;
}

/** The addon in the package of this platform, an optional dependency. */
function inPackage(name) {
  try {
    return require.resolve(`@recluster/${platform()}/${name}`);
  } catch {
    return undefined;
  }
}

function missing(name) {
  const wanted = `@recluster/${platform()}`;
  if (isBundled()) {
    return (
      `recluster: the engine is not beside the bundle ${__filename}: ` +
      `leave 'recluster' out of the bundle (esbuild: --external:recluster; webpack: externals), or copy ${name} of ${wanted} there`
    );
  }
  return (
    `recluster: the engine is not installed: the package ${wanted} is missing. ` +
    'It is an optional dependency: install without --omit=optional, and with a lockfile that knows this platform ' +
    `(npm install --no-save ${wanted}@${version}). RECLUSTER_ENGINE=fallback runs without it`
  );
}

/** Whether this file has become part of another one. */
function isBundled() {
  return path.basename(__filename) !== 'native.js';
}
