/**
 * Whether a member, and this program, went on while somebody waited for an answer. Only the clock on the wall can be read, and it goes
 * on while either waits for a processor: what took long then says nothing of the statement.
 *
 * Answers are counted as of the last turn of the event loop: those that are read in one turn came while this program did something else,
 * or nothing at all, and say nothing of each other. Beats are counted while the loop turns: not while it stands still.
 */
import { Tally } from './tally.ts';

const beatMs = 10;
let beats = 0;
let timer: NodeJS.Timeout | undefined;

/** So much is evidence that it was the statement that took long: answers elsewhere meanwhile, or turns without any. */
const enoughAnswers = 10;
const enoughBeats = 4;

/** A moment to look back from. */
export interface Mark {
  readonly answers: number;
  readonly beats: number;
}

export class Progress {
  readonly tally: Tally;
  #answers = 0;
  #counted = 0;
  #isDue = false;
  readonly #isAlone: () => boolean;
  readonly #count = (): void => {
    this.#isDue = false;
    this.#counted = this.#answers;
  };

  /** `isAlone`: no more than one connection is in use, so that there are no others to go on. */
  constructor(tally = new Tally(), isAlone = (): boolean => false) {
    this.tally = tally;
    this.#isAlone = isAlone;
    timer ??= setInterval(() => {
      beats += 1;
    }, beatMs).unref();
  }

  get mark(): Mark {
    return { answers: this.#counted, beats };
  }

  /** Others have gone on since, though this one waited. */
  wentOnSince(mark: Mark): boolean {
    return this.#counted - mark.answers >= enoughAnswers || beats - mark.beats >= enoughBeats;
  }

  answered(): void {
    this.#answers += 1;
    if (this.#isDue) return;
    if (this.#isAlone()) {
      this.#counted = this.#answers;
      return;
    }
    this.#isDue = true;
    setImmediate(this.#count);
  }
}
