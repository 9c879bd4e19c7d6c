'use strict';

// Questions to the engine that it answers later, by a note: each has a ticket, which the answer bears.

const { refusal } = require('./errors');

class Questions {
  #askers = new Map();
  #last = 0;
  #leave;

  /** @param {(note: object) => void} leave leaves a note, as the engine does */
  constructor(leave) {
    this.#leave = leave;
  }

  get areAnswered() {
    return this.#askers.size === 0;
  }

  /**
   * @param {(error: Error | null, value: unknown) => void} callback is told the answer
   * @param {(ticket: number) => void} question asks the engine
   */
  ask(callback, question) {
    this.#last += 1;
    const ticket = this.#last;
    this.#askers.set(ticket, callback);
    try {
      question(ticket);
    } catch (error) {
      // What the engine refuses at once becomes an answer like any other.
      const answer = { code: 'ERR_RECLUSTER_REFUSED', message: error.message };
      this.#leave({ event: 'answer', ticket, error: answer });
    }
  }

  /** An answer has come. */
  answered({ ticket, value, error }) {
    const callback = this.#askers.get(ticket);
    this.#askers.delete(ticket);
    callback(error ? refusal(error) : null, value ?? undefined);
  }
}

module.exports = Questions;
