// Part of the preload, behind drain.cjs: what a worker says of itself when its master asks, and the requests that it counts.

/**
 * Answers the master, which asks about once a second at most, and only while somebody looks: the admin listener, for its history, does so
 * every five seconds. `counts` says whether requests are counted, from now on. Returns how to answer.
 */
function measures({ tell, counts }) {
  const { memoryUsage, getActiveResources, versions } = own;
  /** Up to when a garbage collection is in each bucket, in milliseconds; and the kinds of them. */
  const COLLECTIONS = [1, 10, 100, 1000, 2000, 5000];
  const KINDS = ['NODE_PERFORMANCE_GC_MINOR', 'NODE_PERFORMANCE_GC_MAJOR', 'NODE_PERFORMANCE_GC_INCREMENTAL', 'NODE_PERFORMANCE_GC_WEAKCB'];
  /** How many kinds of resources are named. */
  const MOST_RESOURCES = 32;
  const requests = counts ? countRequests() : undefined;
  /** The first question turns it on: until then nothing is loaded for this. */
  let meter;

  if (requests) process.on('exit', sayLast);

  return { answer, sayLast };

  function answer() {
    meter ??= beginMeter();
    const { heapUsed: used, heapTotal: total, external } = memoryUsage();
    const said = {
      version: versions.node.split(/[.-]/, 3).map(Number),
      utilization: meter.utilization(),
      memory: { used, total, external },
      active: activeResources(),
      gc: meter.collections.map((kind) => kind.told()),
    };
    if (requests) said.http = requests.told();
    tell({ cmd: 'NODE_RECLUSTER_MEASURES', measures: said });
  }

  /** The worker ends, and has counted what it has not said. */
  function sayLast() {
    if (requests?.hasMore()) answer();
  }

  function beginMeter() {
    const { performance, PerformanceObserver, constants } = require('perf_hooks');
    const collections = KINDS.map(() => spans(COLLECTIONS));
    const kinds = KINDS.map((name) => constants[name]);
    const observer = new PerformanceObserver((list) => {
      for (const { detail, duration } of list.getEntries()) collections[kinds.indexOf(detail.kind)]?.add(duration);
    });
    observer.observe({ entryTypes: ['gc'] });
    let before;
    return { collections, utilization };

    /** Since this was asked before, in millionths. */
    function utilization() {
      const now = performance.eventLoopUtilization();
      const { utilization: part } = before ? performance.eventLoopUtilization(now, before) : now;
      before = now;
      return Math.round(Math.min(Math.max(part, 0), 1) * 1e6) || 0;
    }
  }

  function activeResources() {
    const active = Object.create(null);
    let kinds = 0;
    for (const name of getActiveResources?.() ?? []) {
      if (active[name] !== undefined) active[name] += 1;
      else if (kinds < MOST_RESOURCES) [active[name], kinds] = [1, kinds + 1];
    }
    return active;
  }
}

/** Counts how long something took, in buckets with these bounds. Times are in milliseconds. */
function spans(bounds) {
  const buckets = new Float64Array(bounds.length + 1);
  let sum = 0;
  return {
    add(span, times = 1) {
      let at = 0;
      while (span > bounds[at]) at += 1;
      buckets[at] += times;
      sum += span * times;
    },
    told: () => ({ sum: Math.round(sum * 1000), buckets: Array.from(buckets) }),
  };
}

/**
 * Counts the requests that this worker answers, whoever serves them. It hears of them through Node's diagnostics channels, and touches
 * nothing that a request passes. Every one is counted; of many, some are timed, each for those that began since the one before it.
 */
function countRequests() {
  /** Up to when a request is in each bucket, in milliseconds. */
  const REQUESTS = [1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000];
  /** Classes of statuses, the last one for what is none. */
  const CODES = 6;
  /** So many requests are all timed after the master has asked; of more, one of about so many. */
  const ALL_OF = 256;
  const ONE_OF = 64;
  const { hrtime } = own;
  const { subscribe } = require('diagnostics_channel');
  const codes = new Float64Array(CODES);
  const took = spans(REQUESTS);
  const random = dice();
  /** How many requests the next one that is timed stands for, and how many of them are yet to begin, itself included. */
  let [times, left] = [1, 1];
  /** How many are yet to be timed without a choice. */
  let all = ALL_OF;
  let told = 0;

  /** What it is made of in the place of a new object, which a derived class then gives its private field. */
  class Given {
    constructor(object) {
      return object;
    }
  }

  /** Of one that is timed, when it began and for how many it stands: known of the response itself, where nobody else sees it. */
  class Begun extends Given {
    #begun;

    constructor(object, begun) {
      super(object);
      this.#begun = begun;
    }

    static is(object) {
      return #begun in object;
    }

    static of(object) {
      return object.#begun;
    }
  }

  // The first versions of Node 18 have no such function: there nobody counts. Whoever else publishes there may publish anything.
  if (!subscribe) return undefined;
  hear('http.server.request.start', ({ response }) => begin(response));
  hear('http.server.response.finish', ({ response }) => end(response, response.statusCode));
  // From Node 22.17 and 24.2 on. A stream with an even number was pushed: nobody has asked for it.
  hear('http2.server.stream.start', ({ stream }) => isAsked(stream) && begin(stream));
  hear('http2.server.stream.close', ({ stream }) => isAsked(stream) && stream.rstCode === 0 && end(stream, stream.sentHeaders[':status']));

  return {
    hasMore: () => counted() > told,
    told() {
      told = counted();
      // The next one is timed, whatever was chosen.
      [all, times, left] = [ALL_OF, times - left + 1, 1];
      return { codes: Array.from(codes), spans: took.told() };
    },
  };

  function counted() {
    return codes.reduce((sum, count) => sum + count);
  }

  function isAsked({ id }) {
    return id % 2 === 1;
  }

  /** In milliseconds. */
  function now() {
    const [seconds, nanoseconds] = hrtime();
    return seconds * 1e3 + nanoseconds / 1e6;
  }

  function hear(channel, act) {
    subscribe(channel, (message) => {
      try {
        act(message);
      } catch {
        // It is nothing that Node has published.
      }
    });
  }

  // What is done for every request is kept short: it is paid for each time, the rest once in a while.

  function begin(object) {
    left -= 1;
    if (left <= 0) beginTimed(object);
  }

  function beginTimed(object) {
    new Begun(object, { at: now(), times });
    // By chance: what comes in turns is met in all of them.
    times = all > 0 ? 1 : 1 + random(2 * ONE_OF - 1);
    left = times;
    if (all > 0) all -= 1;
  }

  function end(object, status) {
    if (typeof status !== 'number') return;
    const code = Math.floor(status / 100) - 1;
    codes[code >= 0 && code < CODES - 1 ? code : CODES - 1] += 1;
    if (Begun.is(object)) endTimed(Begun.of(object));
  }

  function endTimed({ at, times: requests }) {
    took.add(now() - at, requests);
  }
}

/** A number from 0 on below another one, by a generator (xorshift) of our own: the application may have seeded Node's. */
function dice() {
  let state = (own.hrtime()[1] ^ process.pid) | 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}
