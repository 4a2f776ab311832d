/**
 * Which shared statements a backend has, bounded: the least recently used one is closed when another is made.
 * Optimistic: a name is noted when its Parse is sent, and forgotten when that turns out to have failed.
 */
export class PreparedNames {
  readonly #names = new Set<string>();
  readonly #limit: number;
  /** Ever noted. */
  made = 0;

  constructor(limit = 200) {
    this.#limit = limit;
  }

  get size(): number {
    return this.#names.size;
  }

  has(name: string): boolean {
    return this.#names.has(name);
  }

  /** True when the backend has it; it is then the most recently used. */
  use(name: string): boolean {
    if (!this.#names.delete(name)) return false;
    this.#names.add(name);
    return true;
  }

  /** Notes a name whose Parse is being sent; returns the one to be closed for it. */
  add(name: string): string | undefined {
    this.#names.add(name);
    this.made += 1;
    if (this.#names.size <= this.#limit) return undefined;
    const oldest = this.#names.values().next();
    if (oldest.done === true) return undefined;
    this.#names.delete(oldest.value);
    return oldest.value;
  }

  forget(name: string): void {
    this.#names.delete(name);
  }

  clear(): void {
    this.#names.clear();
  }
}
