'use strict';

// Finds the engine: a native addon that lies beside this package's index.js, or where RECLUSTER_ADDON says.

const fs = require('fs');
const path = require('path');

const { version } = require('../package.json');

/** Under this name the process has its engine: several copies of one version are one, or each would count workers for itself. */
const SHARED = Symbol.for(`recluster.engine.${version}`);

process[SHARED] ??= load();
module.exports = process[SHARED];

function load() {
  const file = process.env.RECLUSTER_ADDON || besidePackage();
  const addon = { exports: {} };
  try {
    process.dlopen(addon, path.resolve(file));
  } catch (error) {
    throw new Error(`recluster: the engine cannot be loaded on ${platform()}: ${error.message}`);
  }
  return addon.exports;
}

function besidePackage() {
  const file = path.join(__dirname, '..', `recluster.${process.platform}-${process.arch}-gnu.node`);
  if (!fs.existsSync(file)) {
    throw new Error(`recluster: no engine for ${platform()}: this package runs on Linux with glibc, on x64 (${file} is missing)`);
  }
  return file;
}

/** What this process runs on: platform, architecture and, on Linux, the C library. */
function platform() {
  const name = `${process.platform}-${process.arch}`;
  if (process.platform !== 'linux') return name;
  const { header } = process.report.getReport();
  return `${name}-${header.glibcVersionRuntime ? 'gnu' : 'musl'}`;
}
