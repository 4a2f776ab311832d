/**
 * On its way to a connection where the transactions in flight of a tenant or a role are limited: waits for its turn at each limit, then
 * for the pool. What it has taken counts until the pool has the connection back, or it is closed.
 */
import type { RouterError } from '../errors.ts';
import type { Backend } from '../pool/backend.ts';
import type { Pool, Taker, Wish } from '../pool/pool.ts';

export interface Gates<Kind extends string> {
  readonly waitMs: number;
  /** Undefined where it went at once; else how to stop waiting. */
  enter(kind: Kind, name: string, tenant: string, go: () => void): (() => void) | undefined;
  leave(kind: Kind, name: string): void;
  refusal(kind: Kind, name: string): RouterError;
}

export class Admission<Kind extends string> {
  readonly #limits: Gates<Kind>;
  readonly #limited: readonly [Kind, string][];
  readonly #tenant: string;
  readonly #pool: Pool;
  readonly #taker: Taker;
  readonly #wish: Wish | undefined;
  readonly #timer: NodeJS.Timeout;
  #entered = 0;
  #isOver = false;
  #stopWaiting: (() => void) | undefined;

  constructor(
    limits: Gates<Kind>,
    limited: readonly [Kind, string][],
    tenant: string,
    pool: Pool,
    taker: Taker,
    wish: Wish | undefined,
  ) {
    this.#limits = limits;
    this.#limited = limited;
    this.#tenant = tenant;
    this.#pool = pool;
    this.#taker = taker;
    this.#wish = wish;
    this.#timer = setTimeout(() => this.#late(), limits.waitMs);
    this.#next();
  }

  /** Not wanted any more. */
  readonly stop = (): void => {
    if (this.#isOver) return;
    this.#isOver = true;
    clearTimeout(this.#timer);
    this.#stopWaiting?.();
    this.#leaveAll();
  };

  #next(): void {
    const [kind, name] = this.#limited[this.#entered] ?? [];
    if (kind === undefined || name === undefined) return this.#borrow();
    const stop = this.#limits.enter(kind, name, this.#tenant, () => {
      this.#stopWaiting = undefined;
      this.#entered += 1;
      this.#next();
    });
    if (stop !== undefined && !this.#isOver) this.#stopWaiting = stop;
  }

  #borrow(): void {
    clearTimeout(this.#timer);
    const stop = this.#pool.take(
      {
        give: (backend: Backend) => {
          this.#isOver = true;
          backend.onReturn = () => this.#leaveAll();
          this.#taker.give(backend);
        },
        fail: (error: Error) => {
          this.#isOver = true;
          this.#leaveAll();
          this.#taker.fail(error);
        },
      },
      this.#wish,
    );
    if (!this.#isOver) this.#stopWaiting = stop;
  }

  #late(): void {
    const [kind, name] = this.#limited[this.#entered] ?? [];
    if (this.#isOver || kind === undefined || name === undefined) return;
    this.stop();
    this.#taker.fail(this.#limits.refusal(kind, name));
  }

  #leaveAll(): void {
    for (const [kind, name] of this.#limited.slice(0, this.#entered)) this.#limits.leave(kind, name);
    this.#entered = 0;
  }
}
