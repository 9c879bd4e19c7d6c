// Part of the preload, behind drain.cjs: what a worker writes to a stderr that its master does not see, told over the channel.

/**
 * Tells the master the last words of this worker, for the verdict of a reload that fails by it: what is written to
 * `process.stderr`, and what Node itself writes of the error that ends the process. A worker that writes a lot does not fill the
 * channel: of that only the last is told.
 */
function tellStderr() {
  const { setTimeout, clearTimeout, now, send } = own;
  const { inspect, types: { isNativeError } } = require('util');
  const { apply } = Reflect;
  const { from } = Buffer;
  /** How much may be untold, and be told in a second, in characters. */
  const MOST = 16 * 1024;
  /** How much of an error is told, from its beginning on. */
  const MOST_OF_ERROR = MOST / 2;
  /** What a message costs beside its text. */
  const COST = 256;
  /** How long what cannot be told at once is kept, in milliseconds. */
  const PAUSE = 1000;
  let untold = '';
  /** What was written last has no end of line. */
  let isLineOpen = false;
  let timer;
  /** How much may be told at once, as of `counted`. */
  let credit = MOST;
  let counted = now();

  watchStderr();
  watchErrors();

  function watchStderr() {
    const stderr = Object.getOwnPropertyDescriptor(process, 'stderr');
    let watched;
    // The stream is made when it is first used, which the application may never do.
    Object.defineProperty(process, 'stderr', {
      ...stderr,
      get() {
        const stream = stderr.get.call(process);
        if (stream !== watched) watchStream((watched = stream));
        return stream;
      },
    });
  }

  function watchStream(stream) {
    const { write } = stream;
    define(stream, 'write', function (chunk, encoding) {
      remember(textOf(chunk, encoding));
      return apply(write, this, arguments);
    });
  }

  function textOf(chunk, encoding) {
    if (chunk instanceof Uint8Array) {
      const last = chunk.subarray(-MOST);
      return from(last.buffer, last.byteOffset, last.byteLength).toString();
    }
    if (typeof chunk !== 'string') return '';
    return Buffer.isEncoding(encoding) && !/^utf-?8$/i.test(encoding) ? from(chunk, encoding).toString() : chunk;
  }

  function remember(text) {
    if (text === '') return;
    untold = (untold + text.slice(-MOST)).slice(-MOST);
    isLineOpen = !untold.endsWith('\n');
    if (process._exiting || isAffordable()) return tell();
    if (timer) return;
    timer = setTimeout(tell, PAUSE);
    timer.unref();
    process.on('exit', tell);
  }

  function isAffordable() {
    const time = now();
    credit = Math.min(MOST, credit + (Math.max(time - counted, 0) * MOST) / PAUSE);
    counted = time;
    return credit >= COST + untold.length;
  }

  function tell() {
    if (timer) {
      clearTimeout(timer);
      timer = undefined;
      process.removeListener('exit', tell);
    }
    const text = untold;
    untold = '';
    credit -= COST + text.length;
    if (text !== '' && process.connected) send.call(process, { cmd: 'NODE_RECLUSTER_STDERR', text }, undefined, undefined, () => {});
  }

  // What ends the process is shown by Node when this has returned false, or has thrown.
  function watchErrors() {
    const { _fatalException: handle } = process;
    define(process, '_fatalException', function (error, ...rest) {
      let isHandled = false;
      let shown = error;
      try {
        isHandled = handle.call(this, error, ...rest);
        return isHandled;
      } catch (other) {
        shown = other;
        throw other;
      } finally {
        if (!isHandled) tellError(shown);
      }
    });
  }

  function tellError(error) {
    try {
      untold += `${isLineOpen ? '\n' : ''}${shownAs(error).slice(0, MOST_OF_ERROR)}\n`;
      tell();
    } catch {
      // It cannot be shown: its own getters may throw.
    }
  }

  /** As Node shows it, but for the line of code. What is no error is on one line. */
  function shownAs(error) {
    if (isNativeError(error) || typeof error?.stack === 'string') return inspect(error, { customInspect: false });
    const thrown = typeof error === 'string' ? error : inspect(error, { breakLength: Infinity, customInspect: false });
    return `${thrown}\n(Use \`node --trace-uncaught ...\` to show where the exception was thrown)`;
  }
}
