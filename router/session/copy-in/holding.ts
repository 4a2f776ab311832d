/**
 * What has come of a row that isn't whole yet, in one piece however many it came in: each byte is copied a few times at most. What was
 * given away of it is never written over, since values are views of it.
 */
const leastBytes = 8 * 1024;

export class Holding {
  #buffer: Buffer = Buffer.alloc(0);
  #length = 0;

  get bytes(): Buffer {
    return this.#buffer.subarray(0, this.#length);
  }

  get length(): number {
    return this.#length;
  }

  add(piece: Buffer): void {
    const length = this.#length + piece.length;
    if (length > this.#buffer.length) {
      const larger = Buffer.allocUnsafeSlow(Math.max(leastBytes, length, 2 * this.#buffer.length));
      this.#buffer.copy(larger, 0, 0, this.#length);
      this.#buffer = larger;
    }
    piece.copy(this.#buffer, this.#length);
    this.#length = length;
  }

  /** It begins anew, with that. */
  replace(rest: Buffer): void {
    this.#buffer = Buffer.alloc(0);
    this.#length = 0;
    if (rest.length > 0) this.add(rest);
  }
}
