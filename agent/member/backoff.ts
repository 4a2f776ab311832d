/**
 * How long to wait after a failure: not at all after the first, as what ended once by itself is started again at once; then
 * doubled each time from `firstMs` to `mostMs`. Forgotten after a success.
 */
export class Backoff {
  readonly #firstMs: number;
  readonly #mostMs: number;
  readonly #now: () => number;
  #failures = 0;
  #readyAt = 0;

  constructor(firstMs: number, mostMs: number, now: () => number = () => performance.now()) {
    this.#firstMs = firstMs;
    this.#mostMs = mostMs;
    this.#now = now;
  }

  get failures(): number {
    return this.#failures;
  }

  get remainingMs(): number {
    return Math.max(0, Math.ceil(this.#readyAt - this.#now()));
  }

  fail(): void {
    const waitMs =
      this.#failures === 0 ? 0 : Math.min(this.#mostMs, this.#firstMs * 2 ** Math.min(this.#failures - 1, 20));
    this.#failures += 1;
    this.#readyAt = this.#now() + waitMs;
  }

  succeed(): void {
    this.#failures = 0;
    this.#readyAt = 0;
  }
}
