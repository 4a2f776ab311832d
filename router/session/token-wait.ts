/**
 * SHOW meridian.token says all that the session has seen; where some of that has no position yet, it waits for one, which comes with an
 * agent's next answer. Looked at by the bytes of the message, before anything of it is done.
 */
import type { SessionPositions } from '../consistency/session-positions.ts';
import { frontend } from '../wire/codes.ts';

const word = Buffer.from('meridian.token');
const pollMs = 10;
/** Then it is answered with an error: its agents are away, and so is what says where anybody was. */
const patienceMs = 2_000;

export class TokenWait {
  readonly #positions: SessionPositions;
  #timer: NodeJS.Timeout | undefined;

  constructor(positions: SessionPositions) {
    this.#positions = positions;
  }

  get isUnderWay(): boolean {
    return this.#timer !== undefined;
  }

  /** False: nothing has to be waited for. Else `done` is called later, unless it is stopped. */
  begin(frame: Buffer, done: () => void): boolean {
    const type = frame[0];
    if ((type !== frontend.query && type !== frontend.parse) || !frame.includes(word)) return false;
    // From here on its reads are placed as they are answered.
    this.#positions.isAware = true;
    if (this.#positions.isSettled) return false;
    const untilMs = performance.now() + patienceMs;
    this.#timer = setInterval(() => {
      if (!this.#positions.isSettled && performance.now() < untilMs) return;
      this.stop();
      done();
    }, pollMs);
    return true;
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }
}
