/**
 * Named things that a client has the router keep (prepared statements, portals), bounded in bytes for each session: a client that
 * makes them and never closes them is refused, and the others' memory is safe from it. Otherwise a Map.
 */
import { RouterError } from '../errors.ts';

/** An entry's own weight besides what it holds, roughly. */
const overheadBytes = 512;

export class KeptNames<Value> extends Map<string, Value> {
  readonly #what: string;
  readonly #bytesOf: (value: Value) => number;
  readonly #maxBytes: number;
  #bytes = 0;

  constructor(what: string, bytesOf: (value: Value) => number, maxBytes = 16 * 1024 * 1024) {
    super();
    this.#what = what;
    this.#bytesOf = bytesOf;
    this.#maxBytes = maxBytes;
  }

  /** @throws RouterError where there is no room for it. What had the name before is gone then, too. */
  override set(name: string, value: Value): this {
    this.delete(name);
    const bytes = this.#weight(name, value);
    if (this.#bytes + bytes > this.#maxBytes)
      throw new RouterError('TooMuchKept', `this session keeps more than ${this.#maxBytes} bytes of ${this.#what}`);
    this.#bytes += bytes;
    return super.set(name, value);
  }

  override delete(name: string): boolean {
    if (this.has(name)) this.#bytes -= this.#weight(name, this.get(name) as Value);
    return super.delete(name);
  }

  override clear(): void {
    this.#bytes = 0;
    super.clear();
  }

  #weight(name: string, value: Value): number {
    return overheadBytes + name.length * 2 + this.#bytesOf(value);
  }
}
