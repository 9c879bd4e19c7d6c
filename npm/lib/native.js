'use strict';

// Finds the engine: a native addon that lies beside this package's index.js, or where RECLUSTER_ADDON says.

const fs = require('fs');
const path = require('path');

const BUILT_FOR = ['linux-x64-gnu', 'linux-arm64-gnu'];

module.exports = load();

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
    const name = platform();
    const reason = BUILT_FOR.includes(name)
      ? `this copy of the package holds none for it (${file} is missing)`
      : 'it runs on Linux with glibc';
    throw new Error(`recluster: no engine for ${name}: ${reason}`);
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
