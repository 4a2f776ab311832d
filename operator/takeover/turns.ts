/**
 * How many promotions are under way at once, most important shard first. Fences never wait for a turn: only what loads the
 * machines that are left does (docs/design-traps.md, ambiguity 37).
 */
export interface Turn {
  /** May be called again. */
  end(): void;
}

interface Waiting {
  readonly priority: number;
  readonly begin: (turn: Turn) => void;
}

export class Turns {
  readonly #most: number;
  readonly #waiting: Waiting[] = [];
  #taken = 0;

  constructor(most: number) {
    this.#most = most;
  }

  /** Fulfilled at once while there is room, else when it is this one's turn. */
  take(priority: number): Promise<Turn> {
    const { promise, resolve } = Promise.withResolvers<Turn>();
    this.#waiting.push({ priority, begin: resolve });
    this.#next();
    return promise;
  }

  #next(): void {
    while (this.#taken < this.#most && this.#waiting.length > 0) {
      // The first of the highest: of equals, who came first.
      const best = this.#waiting.reduce((a, b) => (b.priority > a.priority ? b : a));
      this.#waiting.splice(this.#waiting.indexOf(best), 1);
      this.#taken += 1;
      best.begin(this.#turn());
    }
  }

  #turn(): Turn {
    let isOver = false;
    return {
      end: () => {
        if (isOver) return;
        isOver = true;
        this.#taken -= 1;
        this.#next();
      },
    };
  }
}
