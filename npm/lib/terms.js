'use strict';

// The engine's texts name options of the command. Here they have the names of this package.

/** Arguments for node have another form, the rest is the same in camel case. */
function ours(text) {
  return text
    .replace(/--node-arg=(--[\w=-]+)/g, "`execArgv: ['$1']`")
    .replace(/--([a-z]+(?:-[a-z]+)*)/g, (flag, name) => (isNodes(flag) ? flag : name.replace(/-([a-z])/g, (_, letter) => letter.toUpperCase())));
}

/** What node itself takes keeps its name. */
function isNodes(flag) {
  return process.allowedNodeEnvironmentFlags.has(flag);
}

module.exports = { ours };
