// Part of the preload, behind drain.cjs: Node's compile cache, which all workers of a cluster share.

/**
 * Has Node keep compiled code in this directory, and read what is there. An application that has a cache of its own, or
 * whose user wants none, is left alone. `off` is why there is none, where people should know; `flush` writes what is new.
 */
function compileCache(directory) {
  /** What is left free on its file system, in bytes: Node does not close a file that it could not write. */
  const ROOM = 64 * 2 ** 20;
  const loader = require('module');
  const fs = require('fs');
  // What is needed again when the application runs, which may replace it.
  const { statfsSync, readdirSync, readlinkSync, closeSync, rmSync } = fs;
  const { enableCompileCache: enable, flushCompileCache: write, getCompileCacheDir: current, constants } = loader;
  const none = (off) => ({ off, flush() {} });
  const { NODE_DISABLE_COMPILE_CACHE: unwanted, NODE_V8_COVERAGE: coverage } = process.env;
  if (unwanted || coverage || current?.() !== undefined || enablesOne(process.argv[1])) return none();
  if (!enable) return none(`Node ${process.version} has no module.enableCompileCache, 22.8 and later have it`);
  try {
    const own = prepare();
    const real = fs.realpathSync(own);
    const { ENABLED, FAILED } = constants.compileCacheStatus;
    const { status, message } = enableIn(own);
    if (status === ENABLED) return { flush: () => flush(real) };
    return none(status === FAILED ? `${message ?? own}` : undefined);
  } catch (error) {
    return none(`${error?.message}`);
  }

  /** Whether a server file turns on a cache itself: a second one cannot be turned on. */
  function enablesOne(server) {
    try {
      return fs.readFileSync(server).includes('enableCompileCache');
    } catch {
      // Node says what is wrong with it.
      return false;
    }
  }

  /** Makes the directory of this user's workers. Compiled code is code: nobody else may put any there. */
  function prepare() {
    const user = process.geteuid();
    const own = `${directory}/compile-${user}`;
    check(directory, user);
    make(own);
    check(own, user);
    const mode = fs.statSync(own).mode & 0o777;
    if (mode & 0o077) throw new Error(`${own} is open to other users (mode ${mode.toString(8)})`);
    if (!hasRoom(own)) throw new Error(`less than ${ROOM / 2 ** 20} MB are free in ${own}`);
    return own;
  }

  /** Makes a directory and what it is in. (Node's own way names another error than the one that there was.) */
  function make(path) {
    const parent = path.slice(0, path.lastIndexOf('/'));
    if (parent !== '' && !fs.existsSync(parent)) make(parent);
    try {
      fs.mkdirSync(path, 0o700);
    } catch (error) {
      // Another worker was faster; or it is something else, which is found out.
      if (error.code !== 'EEXIST') throw error;
    }
  }

  /**
   * Goes from the root to a directory, through symlinks, as far as there is one. Nobody but root and this user may be
   * able to lead it elsewhere; a directory on the way may be one where everybody has only what is theirs, as /tmp.
   */
  function check(path, user) {
    const names = (text) => text.split('/').filter((name) => name !== '' && name !== '.');
    const rest = names(path);
    let links = 0;
    for (let at = ''; rest.length > 0; ) {
      const name = rest.shift();
      if (name === '..') {
        at = at.slice(0, Math.max(at.lastIndexOf('/'), 0));
        continue;
      }
      const next = `${at}/${name}`;
      const about = fs.lstatSync(next, { throwIfNoEntry: false });
      if (!about) return;
      if (about.uid !== 0 && about.uid !== user) throw new Error(`${next} belongs to another user (uid ${about.uid})`);
      if (about.isSymbolicLink()) {
        links += 1;
        if (links > 40) throw new Error(`too many symlinks lead to ${path}`);
        const target = fs.readlinkSync(next);
        if (target.startsWith('/')) at = '';
        rest.unshift(...names(target));
        continue;
      }
      if (!about.isDirectory()) throw new Error(`${next} is no directory`);
      const mode = about.mode & 0o7777;
      const isShared = (mode & 0o1000) !== 0 && rest.length > 0;
      if (mode & 0o022 && !isShared) throw new Error(`${next} is writable by others (mode ${mode.toString(8)})`);
      at = next;
    }
  }

  /** From 24.12 on Node can know modules by their paths relative to the cache; before it takes no object. */
  function enableIn(own) {
    try {
      return enable({ directory: own, portable: true });
    } catch {
      return enable(own);
    }
  }

  function hasRoom(own) {
    const { bavail, bsize } = statfsSync(own);
    return bavail * bsize >= ROOM;
  }

  function flush(own) {
    try {
      if (!write || !hasRoom(own)) return;
      write();
      closeUnwritten(own);
    } catch {
      // The worker serves, and the next one compiles again.
    }
  }

  /** The disk may be full, or the user's share of it: Node leaves open what it could not write. */
  function closeUnwritten(own) {
    for (const fd of readdirSync('/proc/self/fd')) {
      const file = linkOf(`/proc/self/fd/${fd}`);
      if (!file?.startsWith(`${own}/`)) continue;
      closeSync(Number(fd));
      rmSync(file, { force: true });
    }
  }

  function linkOf(path) {
    try {
      return readlinkSync(path);
    } catch {
      // The descriptor of the listing itself is closed by now.
      return undefined;
    }
  }
}
