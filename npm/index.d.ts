/// <reference types="node" />

import { Address, Worker } from 'cluster';
import { EventEmitter } from 'events';

/**
 * A cluster of processes that run one server file, not yet running.
 *
 * @param file the server: a path, absolute or from the working directory
 * @param options read at `run()`, and again at each `reload()`
 */
declare function recluster(file: string, options?: recluster.Options): recluster.Cluster;

declare namespace recluster {
  /** Spans are seconds; fractions are allowed. */
  interface Options {
    /** How many workers are active. Default: the number of cores. */
    workers?: number | undefined;
    /**
     * How long an old worker may go on after a reload. Default: 1, or 3600 where NODE_ENV is production; so is 0.
     * Negative: it is ended at once.
     */
    timeout?: number | undefined;
    /** The least time between two respawns. Default: 1. */
    respawn?: number | undefined;
    /** The most time between respawns: the spacing doubles with each one up to this. Default: off. */
    backoff?: number | undefined;
    /** When a worker is ready. Default: `'listening'`. */
    readyWhen?: 'listening' | 'started' | 'ready' | undefined;
    /** Arguments for the server. */
    args?: string[] | undefined;
    /** Arguments for node. Default: those of this process, as far as they are not about its script. */
    execArgv?: string[] | undefined;
    /** What is logged. Default: `{respawns: true}`. */
    log?: { respawns?: boolean | undefined } | undefined;
    /** Who logs. Default: `console`. */
    logger?: Logger | undefined;

    /** How many extra workers a reload may run at once. Default: `'all'`: no old one leaves before every new one serves. */
    surge?: 'all' | number | undefined;
    /** How many workers boot at a time, the others when those are ready; `'max'`: one for each usable core. Default: no limit. */
    bootLimit?: 'max' | number | undefined;
    /** How often a worker may fail to start before a reload is given up. Default: 3. */
    attempts?: number | undefined;
    /** A worker that is not ready after this fails a reload. Default: none; after 60 seconds it is logged. */
    readyTimeout?: number | undefined;
    /** How long a ready worker must live before it counts in a reload. Default: 0. */
    bake?: number | undefined;
    /** From SIGTERM to SIGKILL. Default: 5. */
    killTimeout?: number | undefined;
    /** From a closed channel to SIGTERM. Default: `timeout`. */
    exitGrace?: number | undefined;
    /** How long a worker may go on at a `shutdown()`. Default: 25, or `timeout` if that is shorter. */
    stopTimeout?: number | undefined;
    /** How many old generations may be on their way out at once. Default: no limit. */
    maxDraining?: number | undefined;
    /** Whether workers leave without losing a request. Default: true. */
    drainHttp?: boolean | undefined;
    /** How long an idle connection of a leaving worker is spared. Default: 6, and less than `timeout`. */
    idleGrace?: number | undefined;
    /** How long `shutdown()` goes on accepting before it begins. Default: 0. */
    acceptAfterStop?: number | undefined;
    /**
     * How connections reach workers. Default: `'kernel'`, or what somebody has chosen as the scheduling policy of Node's own module
     * (`SCHED_RR` is `'round-robin'`, `SCHED_NONE` is `'shared'`).
     */
    balance?: Balance | undefined;
    /** With `balance: 'sticky'`, what makes two connections one client's. Default: `'ip'`. */
    stickyBy?: StickyBy | undefined;
    /** How many of a connection's first bytes are looked at, for `stickyBy`. Default: 16384. */
    peekBytes?: number | undefined;
    /** How long they may take to come. After that the client is known by its address. Default: 2. */
    peekTimeout?: number | undefined;
    /** How many connections are looked at at a time. Default: 10000. */
    peekConnections?: number | undefined;
    /**
     * A worker that uses more memory is renewed, new first. In bytes; as `'80%'` its part of so much of what the control group or the machine
     * lets all of them use, divided by the workers that may run at once. Default: no limit.
     */
    maxMemory?: number | `${number}%` | undefined;
    /** A worker that has lived so long is renewed, new first. Default: no limit. */
    maxLifetime?: number | undefined;
    /** What a worker must pass to be ready, and go on passing: `http:/path`, or `exec:command`. Default: none. */
    readyCheck?: string | undefined;
    /** How long after a check the next one is made, 0.01 at least. Default: 10. */
    checkInterval?: number | undefined;
    /** A check that takes longer has failed. Default: 5. */
    checkTimeout?: number | undefined;
    /** Variables for the workers, before those of `envFile` and of this process. Read again at each reload. */
    env?: { [name: string]: string | undefined } | undefined;
    /** Files of variables, as `node --env-file` reads them. Read again at each reload. */
    envFile?: string | string[] | undefined;
    /** A variable that holds the worker's slot, beside WORKER_ID, as pm2 sets `NODE_APP_INSTANCE`. Default: none. */
    instanceEnv?: string | undefined;
    /**
     * Whether each worker leads a process group of its own. Then ^C in a terminal reaches this process alone, and signals of the
     * engine reach a worker's children too. Default: false.
     */
    ownGroup?: boolean | undefined;
    /**
     * Workers keep the code that Node (22.8 and later) has compiled, so that those that come after them start faster. True: where the
     * environment says (CACHE_DIRECTORY, XDG_CACHE_HOME, HOME); or in a directory. Default: false.
     */
    compileCache?: boolean | string | undefined;
    /** How much compiled code is kept, in bytes. Default: 256 MiB. */
    compileCacheSize?: number | undefined;
    /**
     * Where the engine answers HTTP, also while this process is blocked: a page for people at `/`, `/metrics` for Prometheus, `/livez`,
     * `/readyz`, `/status`, `/history`. A port is that of 127.0.0.1; `'[::1]:9464'`, `'unix:/path?mode=660'`. Default: off.
     */
    admin?: string | number | undefined;
    /** Names that requests there may have as their Host, beside addresses and localhost. */
    adminHost?: string | string[] | undefined;
    /** A file whose token allows changes there: POST /reload, /scale, /stop, /terminate. */
    adminTokenFile?: string | undefined;
    /**
     * Whether systemd, where it waits for a word (NOTIFY_SOCKET), is told how the cluster does: READY=1, RELOADING=1, STATUS=,
     * WATCHDOG=1. Default: true.
     */
    systemd?: boolean | undefined;
    /**
     * What workers say of themselves while somebody looks, for `/metrics` and `status()`: `'basic'`, their event loop, heap and garbage
     * collections; `'http'`, also which requests they answer; `'off'`. Default: `'basic'`.
     */
    workerMetrics?: WorkerMetrics | undefined;
    /**
     * For development: source whose change is a reload. True: where the server file is, in the directory of the nearest package.json; or
     * a path, or several. Without other values there is one worker then, which leaves at once, and code is tried once. Read at `run()`.
     * Default: none.
     */
    watch?: boolean | string | string[] | undefined;
    /** Files, symlinks and directories whose change is a reload, at most every ten seconds. Read at `run()`. Default: none. */
    reloadOn?: string | string[] | undefined;
    /** What the engine does when something happens, also while this process is blocked. Default: nothing. */
    on?: Hook | Hook[] | undefined;
  }

  /** What workers say of themselves. */
  type WorkerMetrics = 'off' | 'basic' | 'http';

  /** When something happens, run a command, which has the event as JSON on its stdin, or post the event. */
  type Hook = `${HookEvent}=exec:${string}` | `${HookEvent}=http://${string}`;

  /** What a hook can be told of. */
  type HookEvent =
    | 'started' | 'reloaded' | 'rolled-back' | 'stopped-part-way' | 'crashed' | 'respawn-loop' | 'unhealthy' | 'recycled'
    | 'stopping' | 'stopped';

  /** The options by the name that they have in `@types/recluster`. */
  type BalancerOptions = Options;

  /** A cluster by the name that it has in `@types/recluster`. */
  type Balancer = Cluster;

  /** How connections reach workers. */
  type Balance = 'round-robin' | 'shared' | 'kernel' | 'sticky';

  /** What a client is known by. */
  type StickyBy = 'ip' | 'proxy-protocol' | `header:${string}` | `cookie:${string}` | `query:${string}`;

  interface Logger {
    log(...what: unknown[]): void;
  }

  /** By slot, which is the worker's WORKER_ID; null or nothing where a slot has no active worker. */
  interface ActiveWorkers {
    readonly [slot: number]: Worker | null | undefined;
    readonly length: number;
  }

  interface Events {
    /** It runs. */
    online: [worker: Worker];
    /** A server of it listens. */
    listening: [worker: Worker, address: Address];
    /** It may serve: with the address, or the message, that made it ready. */
    ready: [worker: Worker, by: any];
    /** It sent a message. */
    message: [worker: Worker, message: any];
    /** Its channel is closed. */
    disconnect: [worker: Worker];
    /** Its process has ended. */
    exit: [worker: Worker];
    /** The engine has panicked (`ERR_RECLUSTER_PANICKED`), which is a fault of recluster; the cluster has ended. */
    error: [error: Error & { code: string }];
  }

  interface Cluster extends EventEmitter {
    /** Starts the workers; after `stop()`, supervises again those that live. Does nothing while it runs. */
    run(): void;
    /** Replaces every worker, and calls back: without an argument when the new code serves, else with the reason. */
    reload(callback: (error?: ReloadError) => void): void;
    /** Replaces every worker. The promise is rejected with a {@link ReloadError}; nobody has to look at it. */
    reload(): Promise<void>;
    /** The one or the other. */
    reload(callback: ((error?: ReloadError) => void) | undefined): Promise<void> | undefined;
    /** Changes the number of slots, and tells the new one. */
    scale(workers: number): Promise<number>;
    /** A picture of the whole cluster. */
    status(): Promise<Status>;
    /** Supervises no more: nothing is respawned, the workers are left alone. */
    stop(): void;
    /** Lets every worker finish what it has, and calls back when all are gone. */
    shutdown(callback: () => void): void;
    /** Lets every worker finish what it has. The promise is kept when all are gone. */
    shutdown(): Promise<void>;
    /** The one or the other. */
    shutdown(callback: (() => void) | undefined): Promise<void> | undefined;
    /** Kills every worker, and calls back when all are gone. */
    terminate(callback?: () => void): void;
    /** Every worker that lives. Always the same array. */
    workers(): Worker[];
    /** The worker that serves in each slot. Always the same object. */
    activeWorkers(): ActiveWorkers;

    on<E extends keyof Events>(event: E, listener: (...args: Events[E]) => void): this;
    on(event: string | symbol, listener: (...args: any[]) => void): this;
    once<E extends keyof Events>(event: E, listener: (...args: Events[E]) => void): this;
    once(event: string | symbol, listener: (...args: any[]) => void): this;
    addListener<E extends keyof Events>(event: E, listener: (...args: Events[E]) => void): this;
    addListener(event: string | symbol, listener: (...args: any[]) => void): this;
    off<E extends keyof Events>(event: E, listener: (...args: Events[E]) => void): this;
    off(event: string | symbol, listener: (...args: any[]) => void): this;
    removeListener<E extends keyof Events>(event: E, listener: (...args: Events[E]) => void): this;
    removeListener(event: string | symbol, listener: (...args: any[]) => void): this;
  }

  /** Why a reload did not bring the new code into every slot. */
  interface ReloadError extends Error {
    code:
      | 'ERR_RECLUSTER_ROLLED_BACK'
      | 'ERR_RECLUSTER_STOPPED_PART_WAY'
      | 'ERR_RECLUSTER_ABANDONED'
      | 'ERR_RECLUSTER_REFUSED'
      | 'ERR_RECLUSTER_NOT_RUNNING';
    /** What happened, such as `exited with status 1 before it served`. */
    reason: string;
    /** The last lines that the worker wrote to its stderr. */
    stderr: string[];
    /** The number of the worker that failed, and its slot. */
    worker?: number;
    slot?: number;
    /** What is probably wrong. */
    hint?: string;
    /** How many slots run the new code, of how many, where a bounded `surge` was stopped part-way. */
    replaced?: number;
    of?: number;
  }

  /** What `recluster status --json` prints: docs/json.md of the repository says what each field means. */
  interface Status {
    pid: number;
    /** The program that the master is: its version, when it began, and how often another has taken its place under the cluster (never here). */
    master: { version: string; since: string; upgrades: number };
    /** `stopping` from when a stop was asked for, also while `acceptAfterStop` runs. */
    phase: 'starting' | 'running' | 'stopping' | 'terminating' | 'released' | 'over';
    generation: number;
    reload: { generation: number; serving: number; of: number } | null;
    last_reload: LastReload | null;
    uptime_seconds: number;
    balance: Balance;
    /** Under `sticky`: what makes connections one client's. */
    sticky_by?: string;
    /** Connections that were given to an idle worker because another was busy (`kernel`). */
    stolen: number;
    /** How often a connection was taken back from a worker that could not have it. */
    requeued: number;
    /** The server file that workers of this generation are started from, every symlink resolved. */
    server: string;
    /** The server file as it was given, where a symlink leads from there to `server`. */
    server_link?: string;
    /** The names of the variables that `env` and `envFile` give to workers of this generation. */
    env: string[];
    slots: { slot: number; active: number | null; restarts: number; /** Null where that is not known. */ connections: number | null; /** Connections on their way to it. */ in_flight: number }[];
    workers: WorkerStatus[];
    /** With what is in force at each address. */
    listeners: { address: string; balance: Balance; /** Why it is not what was asked for. */ reason?: string; /** New connections are handed out to the worker with the fewest (`kernel`). */ handing_out?: boolean }[];
  }

  interface LastReload {
    generation: number | null;
    seconds_ago: number;
    verdict: 'done' | 'rolled_back' | 'stopped_part_way' | 'abandoned' | 'refused';
    /** With `rolled_back` and `stopped_part_way`. */
    failure?: Failure;
    /** With `stopped_part_way`. */
    replaced?: number;
    of?: number;
    /** With `refused`. */
    reason?: string;
  }

  interface Failure {
    worker: { id: number; slot: number; generation: number; pid: number | null };
    reason: string;
    failures: number;
    /** The last lines that it wrote to its stderr. */
    stderr: string[];
    hint: string | null;
  }

  interface WorkerStatus {
    id: number;
    slot: number;
    generation: number;
    pid: number | null;
    state: 'starting' | 'ready' | 'serving' | 'draining' | 'terminating' | 'killed' | 'unkillable' | 'leftover';
    /** Its process is stopped, such as by SIGSTOP. */
    stopped?: boolean;
    seconds_left: number | null;
    uptime_seconds: number;
    memory_bytes: number | null;
    cpu_seconds: number | null;
    notifications_ignored: number;
    /** Null where that is not known. */
    connections: number | null;
    held?: {
      connections: number;
      upgraded: number;
      requests: number;
      alive?: { name: string; count: number }[];
    };
    /** How it does, if it has said so: see `workerMetrics`. */
    node?: { loop_utilization: number; loop_lag_seconds: number; heap_used_bytes: number };
    /** The requests that it has answered, with `workerMetrics: 'http'`. */
    http?: { requests: number; errors: number; /** Of the last seconds. */ p99_seconds?: number };
  }
}

export = recluster;
