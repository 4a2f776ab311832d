/**
 * What routers say of themselves when they ask for the authority: whether they hold new transactions back, and how many are
 * under way. A planned stop waits until every router that was heard of lately holds and has none, so that no client's
 * transaction is cut; bounded by whoever waits.
 */
import { bootTimeMs } from '#clock/boot-time.ts';
import type { RouterWord } from '#core/protocol/authority.ts';

/** Of a router that says nothing for longer nobody knows anything. It asks every 300 ms. */
const HEARD_LATELY_MS = 3_000;
const MAX_ROUTERS = 1_000;

export class Routers {
  readonly #now: () => number;
  readonly #words = new Map<string, { readonly word: RouterWord; readonly at: number }>();

  constructor(now: () => number = bootTimeMs) {
    this.#now = now;
  }

  hear(word: RouterWord): void {
    this.#words.delete(word.id);
    if (word.goodbye === true) return;
    this.#words.set(word.id, { word, at: this.#now() });
    this.#forgetSilent();
  }

  /** None of those heard of lately sends anything new at this epoch, nor waits for anything. */
  areDrained(epoch: number): boolean {
    this.#forgetSilent();
    return [...this.#words.values()].every(({ word }) => word.holdsAtEpoch >= epoch && word.inFlight === 0);
  }

  /** The map is in the order of hearing. */
  #forgetSilent(): void {
    for (const [id, { at }] of this.#words) {
      if (this.#now() - at <= HEARD_LATELY_MS && this.#words.size <= MAX_ROUTERS) return;
      this.#words.delete(id);
    }
  }
}
