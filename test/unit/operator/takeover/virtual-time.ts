/**
 * A clock that tests turn: whoever sleeps is woken in order, and time passes only when nobody has anything left to do.
 * Work between two sleeps takes no time, so a run is the same each time, however busy the machine.
 */
interface Sleeper {
  readonly atMs: number;
  readonly order: number;
  readonly wake: () => void;
}

export class VirtualTime {
  nowMs = 1_000_000;
  readonly #sleepers: Sleeper[] = [];
  #order = 0;

  sleep(ms: number): Promise<void> {
    return new Promise((wake) => {
      this.#order += 1;
      this.#sleepers.push({ atMs: this.nowMs + Math.max(0, ms), order: this.#order, wake });
    });
  }

  /** Lets everything happen that is due within this time, or until `isOver`. @returns Whether it became so. */
  async run(forMs: number, isOver: () => boolean = () => false): Promise<boolean> {
    const untilMs = this.nowMs + forMs;
    for (;;) {
      await settled();
      if (isOver()) return true;
      const next = this.#sleepers.toSorted((a, b) => a.atMs - b.atMs || a.order - b.order)[0];
      if (next === undefined || next.atMs > untilMs) {
        this.nowMs = untilMs;
        return isOver();
      }
      this.#sleepers.splice(this.#sleepers.indexOf(next), 1);
      this.nowMs = Math.max(this.nowMs, next.atMs);
      next.wake();
    }
  }
}

/** Every chain of fulfilled promises has run to its next sleep: the queue of microtasks is empty before the next task. */
const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
