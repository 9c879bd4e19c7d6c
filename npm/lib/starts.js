'use strict';

// What the workers of one run are started with: what is said at that moment. After a reload that was rolled back it is what was
// said before, until the next reload, since what was said for it may be why it failed.

class Starts {
  /** The plan by which a worker was started last. */
  plan;
  /** The same before the reload that goes on. */
  #before = null;
  #isRolledBack = false;

  /** @param {object} plan */
  constructor(plan) {
    this.plan = plan;
  }

  /** A reload to this plan is asked for. */
  reload(plan) {
    this.#before ??= this.plan;
    this.#isRolledBack = false;
    this.plan = plan;
  }

  /**
   * The plan for a start.
   * @param {(plan: object) => object} refresh puts what is said now into a plan
   */
  latest(refresh) {
    if (!this.#isRolledBack) this.plan = refresh(this.plan);
    return this.plan;
  }

  /** Something that the engine tells. */
  noted({ event, verdict }) {
    if (event !== 'reloaded' || verdict === 'superseded') return;
    this.#isRolledBack = verdict === 'rolled_back' && this.#before !== null;
    if (this.#isRolledBack) this.plan = this.#before;
    this.#before = null;
  }
}

module.exports = Starts;
